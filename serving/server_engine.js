'use strict';
// The engine of the page of serve.py: every text is sent to the server.

Object.assign(ZH, {'The server does not answer.': '服务器没有响应。'});

class ServerEngine {
  constructor() { this.canForce = true; }

  start() { return this.ask('health'); }

  async translate(name, text, options, signal, token) {
    const headers = {'Content-Type': 'application/json', ...(token && {Authorization: `Bearer ${token}`})};
    const body = JSON.stringify({text, run: name, ...options});
    return (await this.ask('translate', {method: 'POST', headers, body, signal})).results[0];
  }

  force(name, text, target, token) { return this.translate(name, text, {target}, undefined, token); }

  async ask(path, request) {
    let answer, data;
    try {
      answer = await fetch(path, request);
      data = await answer.json();
    } catch (error) {
      throw error.name === 'AbortError' ? error : new Error(say('The server does not answer.'));
    }
    if (!answer.ok) throw Object.assign(new Error(data.error), {status: answer.status});
    return data;
  }
}

const makeEngine = () => new ServerEngine();
