"""Controls under a picture of the tutorial, and the picture alone where there are no controls.

The output of a cell holds both: a live notebook shows the controls, a page or a notebook without a kernel the picture.
"""
import base64

from IPython.display import display

try:
    import ipywidgets
except ImportError:         # the picture alone
    ipywidgets = None

WIDGET = 'application/vnd.jupyter.widget-view+json'


def play(draw, **controls):
    """Shows a picture that is drawn anew when a control is moved.

    # Arguments
        draw: function of the controls' values that returns the bytes of a PNG.
        controls: name=text for a line to type in, which Enter ends; name=(first, minimum, maximum) for a slider.

    # Returns
        The widgets by name, for a test; `{}` without ipywidgets.
    """
    values = {name: value if isinstance(value, str) else value[0] for name, value in controls.items()}
    still = draw(**values)
    bundle, widgets = {'image/png': base64.b64encode(still).decode('ascii'), 'text/plain': 'a picture'}, {}
    if ipywidgets:
        picture = ipywidgets.Image(value=still, format='png', layout={'max_width': '760px', 'width': 'auto'})
        for name, value in controls.items():
            widgets[name] = ipywidgets.Text(value, description=name, continuous_update=False) if isinstance(
                value, str) else ipywidgets.IntSlider(value[0], *value[1:], description=name)

        def redraw(_):
            picture.value = draw(**{name: widgets[name].value for name in controls})

        for widget in widgets.values():
            widget.observe(redraw, 'value')
        box = ipywidgets.VBox(list(widgets.values()) + [picture])
        bundle[WIDGET] = {'model_id': box.model_id, 'version_major': 2, 'version_minor': 0}
        widgets['picture'] = picture
    display(bundle, raw=True, metadata={'image/png': {'width': 620}})
    return widgets
