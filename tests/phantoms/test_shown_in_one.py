import numpy as np

from nnunet_xmodal.phantoms.shown_in_one import SHOWS, one_modality_phantom


def test_lesions_show_in_one_channel_and_not_in_the_other():
    differences = {0: [], 1: []}
    for seed in range(12):
        phantom = one_modality_phantom(np.random.default_rng(seed))
        lesion = phantom.label > 0
        np.testing.assert_array_equal(lesion, phantom.dark[SHOWS])
        assert lesion.any() and phantom.dark[1 - SHOWS].any() and not (lesion & phantom.dark[1 - SHOWS]).any()
        images = phantom.images / np.quantile(phantom.images, 0.5, axis=(1, 2, 3), keepdims=True)
        inside = np.zeros(lesion.shape, bool)
        inside[3:5, 10:22, 10:22] = True  # of the organ, whatever its place
        around = inside & ~phantom.dark.any(0)
        for channel in range(2):
            differences[channel].append(images[channel][around].mean() - images[channel][lesion].mean())
    assert np.mean(differences[SHOWS]) > 0.2 > 10 * abs(np.mean(differences[1 - SHOWS]))
