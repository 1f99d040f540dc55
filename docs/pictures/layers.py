"""The layers of the package, as the pictures show them."""

__all__ = ["COLOURS", "LAYERS"]

LAYERS = {
    "cli": ("Commands", "#b4530a", "#f0a868"),
    "contrib": ("Integrations", "#a3541b", "#e0a06a"),
    "harness": ("In tests", "#6639ba", "#b79aff"),
    "door": ("Doors", "#57606a", "#aab4be"),
    "testing": ("Testing", "#8250df", "#c8a6ff"),
    "facade": ("Blocking API", "#bf3989", "#ff9bce"),
    "instance": ("Instance", "#cf222e", "#ff8f86"),
    "engine": ("Engine", "#0969da", "#79b8ff"),
    "adapter": ("Adapters", "#1a7f37", "#6fdd8b"),
    "contract": ("Contract", "#946200", "#e3b341"),
    "pure": ("Pure", "#0e7490", "#67d3e8"),
}
"""From the top: what each layer is called, and its colour in light and in dark mode."""

COLOURS = {layer: (light, dark) for layer, (_, light, dark) in LAYERS.items()}
