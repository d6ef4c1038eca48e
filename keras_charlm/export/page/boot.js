// A classic script: it also runs where modules do not, and can show why the page fails.
"use strict";
(() => {
  function fail(sentence) {
    document.documentElement.dataset.state = "broken";
    document.getElementById("status").textContent = sentence;
  }
  // The smallest module with a vector instruction.
  const simd = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11);
  const single = self.modules; // of a page in one file
  if (location.protocol === "file:" && !single) {
    fail("A browser does not let a page that is opened as a file read the model beside it. Serve the "
      + "folder instead, for example with: python3 -m http.server; or export the page with --single-file.");
  } else if (typeof WebAssembly !== "object") {
    fail("This browser has no WebAssembly, or it is switched off, and the model cannot run without it. "
      + "Allow it in the browser’s settings, or open the page in another browser.");
  } else if (!WebAssembly.validate(simd) || (single && !self.DecompressionStream)) {
    fail("This browser is too old for the model, which needs WebAssembly SIMD: "
      + "Chrome 91, Firefox 113, Safari 16.4, or a later one.");
  } else {
    const loaded = single ? Promise.resolve(single["app.js"]) : import("./app.js");
    loaded.then((app) => app.start(fail), () =>
      fail("A part of this page could not be loaded. Check the connection and load the page again."));
  }
})();
