// Says when the page is not up to date, and closes the stream of a page that nobody sees:
// a browser opens only six connections to one server, for all its tabs together.
(function () {
  "use strict";
  var source = null;

  function show(isLost) {
    var note = document.getElementById("offline");
    if (note) note.hidden = !isLost;
  }

  htmx.createEventSource = function (url) {
    source = new EventSource(url, { withCredentials: true });
    source.addEventListener("open", function () { show(false); });
    source.addEventListener("error", function () { if (!document.hidden) show(true); });
    return source;
  };

  document.addEventListener("visibilitychange", function () {
    var live = document.getElementById("live");
    if (!live) return;
    if (document.hidden) {
      if (source) source.close();
      source = null;
    } else if (!source) {
      htmx.ajax("GET", location.href, { target: "#live", select: "#live", swap: "outerHTML" });
    }
  });
})();
