// Says when the page is not up to date, and closes the stream of a page that nobody sees:
// a browser opens only six connections to one server, for all its tabs together.
(function () {
  "use strict";
  var source = null;
  var timer = null;

  function show(isLost) {
    var note = document.getElementById("offline");
    if (note) note.hidden = !isLost;
  }

  // Some servers end a stream after a while, and the browser opens it again at once.
  function note(isLost) {
    if (isLost) {
      if (timer === null) timer = setTimeout(show, 2000, true);
    } else {
      clearTimeout(timer);
      timer = null;
      show(false);
    }
  }

  htmx.createEventSource = function (url) {
    source = new EventSource(url, { withCredentials: true });
    source.addEventListener("open", function () { note(false); });
    source.addEventListener("error", function () { if (!document.hidden) note(true); });
    var made = source;
    if (document.hidden) {  // a link that was opened in a new tab
      made.close();
      source = null;
    }
    return made;
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
