'use strict';
// The controls that show an output growing, one token a step.

Object.assign(ZH, {'Play': '播放', 'Pause': '暂停', 'Step %d of %d': '第 %d 步，共 %d 步'});

const STEP_TIME = 700;  // milliseconds

class AlignmentPlayer {
  // onStep: takes the number of tokens that are shown.
  constructor(parent, onStep) {
    this.onStep = onStep;
    this.bar = add(parent, 'div', undefined, {className: 'player'});
    this.button = add(this.bar, 'button', say('Play'), {type: 'button', onclick: () => this.timer ? this.stop() : this.play()});
    const label = add(this.bar, 'label');
    this.slider = add(label, 'input', undefined, {type: 'range', min: 1, oninput: () => {
      this.stop();
      this.go(Number(this.slider.value));
    }});
    this.told = add(label, 'span', '', {className: 'quiet'});
  }

  // Shows all `count` tokens; no controls for less than two.
  reset(count) {
    this.stop();
    this.bar.hidden = count < 2;
    this.slider.max = this.count = count;
    this.go(count);
  }

  go(shown) {
    this.shown = shown;
    this.slider.value = shown;
    this.told.textContent = say('Step %d of %d', shown, this.count);
    this.slider.setAttribute('aria-valuetext', this.told.textContent);
    this.onStep(shown);
  }

  play() {
    this.button.textContent = say('Pause');
    this.go(this.shown < this.count ? this.shown : 1);
    this.timer = setInterval(() => {
      if (this.shown + 1 >= this.count) this.stop();
      this.go(this.shown + 1);
    }, STEP_TIME);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.button.textContent = say('Play');
  }
}
