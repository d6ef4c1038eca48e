// A classic script: it also runs where modules do not, and can show why the page fails.
"use strict";
(() => {
  function fail(sentence) {
    document.documentElement.dataset.state = "broken";
    document.getElementById("status").textContent = sentence;
  }
  if (location.protocol === "file:") {
    fail("A browser does not let a page that is opened as a file read the model beside it. Serve the "
      + "folder instead, for example with: python3 -m http.server");
  } else if (typeof WebAssembly !== "object") {
    fail("This browser has no WebAssembly, or it is switched off, and the model cannot run without it. "
      + "Allow it in the browser’s settings, or open the page in another browser.");
  } else {
    import("./app.js").then((app) => app.start(fail), () =>
      fail("A part of this page could not be loaded. Check the connection and load the page again."));
  }
})();
