"""Cases in the browser: images, label maps, probabilities and maps side by side and linked, by NiiVue."""
