"""Every trainer of this package, in the order of the README."""

from functools import partial

from nnunet_xmodal.catalogue.entry import Entry


def _named(*names: str) -> tuple[str, ...]:
    return tuple(f"nnUNetTrainer{name}" for name in names)


_csad = partial(Entry, task="segmentation", paper="CSAD + SCFF", page="methods/csad.md", streams="2 or more")
_cmft = partial(Entry, task="synthesis", paper="CMFT + CMFF", page="methods/cmft_cmff.md", streams="exactly 2")
_cmff = partial(_cmft, task="segmentation")
_registration = partial(
    Entry,
    task="registration",
    paper="Attention-Reg",
    page="methods/registration.md",
    streams="a fixed and a moving image",
    dimensions="3D",
    needs="plans of RegistrationPlanner",
)
_folded = partial(Entry, task="segmentation", paper="folded attention", page="methods/folded_attention.md")
_qsm = partial(
    Entry,
    task="reconstruction",
    paper="folded attention",
    page="methods/susceptibility.md",
    streams="1, and the map to be made",
    dimensions="3D",
    needs="plans of ReconstructionPlanner or ReconstructionUNetPlanner",
)
_EPISODES = "plans of FewShotPlanner; "
_OF_R18 = "ImageNet's weights if they are there"
_OF_LITE = "the extra [lite] for ImageNet's weights"
_OF_ALL_BACKBONES = _EPISODES + "COCO's weights, for R18 ImageNet's, if they are there; for Lite the extra [lite]"
_few_shot = partial(
    Entry,
    task="few-shot",
    paper="CRTPNet",
    page="methods/few_shot.md",
    streams="1",
    dimensions="3D, slice by slice",
    needs=_EPISODES + "COCO's weights if they are there",
)
_rival = partial(Entry, task="segmentation", page="methods/rivals.md", streams="2 or more")
_rival_of_one = partial(_rival, streams="1 or more, as one input")

TRAINERS = (
    _csad(
        _named("MultiStream"),
        paper="",
        what="an encoder per stream, features side by side: the baseline of all fusions",
    ),
    _csad(
        _named("CSAD"),
        what="attention distilled between the encoders, fused at the bottleneck where features correlate",
    ),
    _csad(
        _named("SCFF"),
        what="the fusion alone",
    ),
    _csad(
        _named("CSADNoSCFF"),
        what="the distillation alone",
    ),
    _csad(
        _named("CSADPLC"),
        what="distillation between the same levels instead of interlaced ones",
    ),
    _csad(
        _named("CSADEarlyFusion", "CSADLateFusion"),
        what="one encoder for all; fusion behind the decoders",
        streams="1 or more; 2 or more",
    ),
    _csad(
        _named(
            "CSADPrinted",
            "CSADPrintedNoSCFF",
            "CSADPrintedPLC",
            "CSADPrintedEarlyFusion",
            "CSADPrintedLateFusion",
        ),
        what="the same by the paper's letter: the distillation outweighs the segmentation, its maps collapse",
        streams="2 or more; EarlyFusion 1 or more",
    ),
    _csad(
        _named("CSADMean"),
        what="by the letter, but attention from the mean over channels: flat maps",
    ),
    _csad(
        _named("CSADGradientShare"),
        what="the weight held where the distillation's gradient is a share of the segmentation's; on trial",
    ),
    _csad(
        _named("CSADPaper"),
        what="the paper's own training: its letter, SGD, Dice + weighted BCE, batch 2, 256×256",
    ),
    _csad(
        _named("StreamGates", "StreamGatesDropout"),
        what="gates: at every level, each position weighs one stream against the others. This package's own, on trial",
        paper="",
    ),
    _csad(
        _named("SCFFLevels", "SCFFLevelsDropout"),
        what="on the coarsest levels, each stream adds what correlates with it in the others. "
        "This package's own, on trial",
        paper="",
    ),
    _csad(
        _named("MultiStreamDropout", "SCFFDropout", "CSADDropout", "CMFFDropout"),
        what="streams are dropped at random in training: one model for cases that "
        "[lack a modality](documentation/how-to/missing_modality.md)",
        paper="",
        streams="2 or more; CMFF exactly 2",
    ),
    _csad(
        _named("AnyStreams", "AnyStreamsDistilled"),
        what="each sample with all and with some of its streams in one step: one model for cases that "
        "[lack a modality](documentation/how-to/missing_modality.md) and for those that do not; distilled from the "
        "one to the other. This package's own",
        paper="",
    ),
    _csad(
        _named("ZeroFill", "ChannelDropout"),
        what="nnU-Net's network with 0 where a channel is absent, on "
        "[incomplete cohorts](documentation/how-to/incomplete_cohorts.md); with channels set to 0 at random in "
        "training: the baselines of the two rows above",
        paper="",
        page="how-to/incomplete_cohorts.md",
        streams="1 or more",
    ),
    _csad(
        _named("Stream0", "Stream1", "Stream2", "Stream3"),
        what="nnU-Net's network on one stream alone",
        paper="",
        streams="that stream",
    ),
    _cmft(
        _named("CMFTPaired", "CMFTPairedL1"),
        what="makes each of two streams from the other, without labels: "
        "[missing modalities](documentation/how-to/synthesise.md), and pre-training; `…L1` without the CycleGAN",
    ),
    _cmft(
        _named("CMFT", "CMFTIdentity", "CMFTUnpaired", "CMFTTumour", "CMFTCheckpointed"),
        what="the same by the paper's letter, which may invert contrasts, and variants",
    ),
    _cmft(
        _named("SelfReconstruction"),
        what="the baseline of that pre-training",
    ),
    _cmff(
        _named("CMFF", "CMFFNoMask", "CMFFCBAM", "CMFFMean", "CMFFStreamA", "CMFFStreamB", "CMFFDice"),
        what="two branches, from CMFT's checkpoint or "
        "[any of nnU-Net's](documentation/methods/cmft_cmff.md#pre-training-from-elsewhere-nnunetxmodal_inflate), "
        "and a fusion branch guided by their masks; ablations",
    ),
    _cmff(
        _named("CMFTPaper", "CMFFPaper"),
        what="the paper's own trainings: Adam, batch 1, Dice, patches in the tumour",
        task="synthesis, segmentation",
    ),
    _folded(
        _named("FA", "FALiteral"),
        what="nnU-Net's network with folded attention at the bottleneck: residual with scaled logits; "
        "by the letter of the equation",
    ),
    _folded(
        _named("SA", "RSA", "DualAttention", "AG"),
        what="its rivals: self-attention, recurrent slices, dual attention, gates",
        needs="AG at least three levels",
    ),
    _folded(
        _named("CSADFA"),
        what="CSAD with folded attention behind the fusion",
        streams="2 or more",
    ),
    _folded(
        _named("FAPaper"),
        what="the paper's own training for MS lesions",
    ),
    _registration(
        _named("AttentionReg", "AttentionRegLabel", "AttentionRegStage2", "AttentionRegPaper", "FeatureReg"),
        what="rigid [registration](documentation/how-to/register.md) of two modalities by cross-modal attention; "
        "from labels; a second stage; the paper's own training; without attention",
    ),
    _registration(
        _named("CorrespondenceReg", "CorrespondenceRegStage2"),
        what="not of the paper: the rigid transform that fits soft matches between both images; a second stage",
    ),
    _qsm(
        _named("QSM", "QSMFA", "QSMSA", "QSMDualAttention", "QSMRSA"),
        what="[susceptibility maps](documentation/how-to/reconstruct.md) in ppm: what an inversion of the field lacks, "
        "without and with attention; any other regression in ten lines",
    ),
    _qsm(
        _named("QSMDirect", "QSMFADirect", "QSMSADirect", "QSMDualAttentionDirect", "QSMRSADirect"),
        what="the same from the field alone, without an inversion, as published",
    ),
    _few_shot(
        _named("CRTP", "CRBase", "CRMask"),
        what="[few-shot segmentation](documentation/how-to/few_shot.md): trained on superpixels without labels, then "
        "every organ from one labelled example; ablations",
    ),
    _few_shot(
        _named("ALP", "PANet"),
        what="its predecessors: adaptive local prototypes, class prototypes",
    ),
    _few_shot(
        _named("CRTPLite", "CRBaseLite", "CRMaskLite", "ALPLite", "PANetLite"),
        what="the five on EfficientNet-Lite0, whose weights come as a package",
        needs=_EPISODES + _OF_LITE,
    ),
    _few_shot(
        _named(
            "CRTPOneSuperpixel",
            "CRTPOneSuperpixelR18",
            "ALPOneSuperpixel",
            "ALPOneSuperpixelR18",
            "PANetOneSuperpixel",
            "PANetOneSuperpixelR18",
        ),
        needs=_EPISODES + "COCO's weights, for R18 ImageNet's, if they are there",
        what="one superpixel per pair of slices, as in the papers, in the place of eight",
    ),
    _few_shot(
        _named("CRTPR18", "CRBaseR18", "CRMaskR18", "ALPR18", "PANetR18"),
        what="the five on a small backbone, ResNet-18",
        needs=_EPISODES + _OF_R18,
    ),
    _rival(
        _named("HyperDenseNet"),
        what="a path per stream, densely connected within and between paths at every level",
        paper="HyperDenseNet",
    ),
    _rival(
        _named("OctopusNet"),
        what="an encoder per stream, one decoder whose stages read all encoders and all coarser stages",
        paper="OctopusNet",
    ),
    _rival(
        _named("FuseUNet"),
        what="a master stream selects what is taken of its assistants, which learn to say what it says",
        paper="FuseUNet",
    ),
    _rival(
        _named("mmFormer"),
        what="transformers within and between streams, of which any may "
        "[lack](documentation/how-to/incomplete_cohorts.md), in training too",
        paper="mmFormer",
    ),
    _rival_of_one(
        _named("HSCNet", "MultiResUNet", "UNetPlusPlus"),
        what="hierarchical separable convolutions; MultiRes blocks and Res paths; nested skips",
        paper="HSCNet, MultiResUNet, UNet++",
    ),
    _registration(
        _named("DVNet", "MSReg"),
        what="a 2D network of both volumes' slices; a ResNeXt of both volumes",
        paper="DVNet, MSReg",
        page="methods/rivals.md",
    ),
    _few_shot(
        _named("RPNet", "RPNetR18", "RPNetLite"),
        what="masks that are refined in rounds; on ResNet-18, on EfficientNet-Lite0",
        paper="RP-Net",
        page="methods/rivals.md",
        needs=_OF_ALL_BACKBONES,
    ),
    _few_shot(
        _named("CRAPNet", "CRAPNetR18", "CRAPNetLite"),
        what="cycle-resemblance attention before local prototypes; on ResNet-18, on EfficientNet-Lite0",
        paper="CRAPNet",
        page="methods/rivals.md",
        needs=_OF_ALL_BACKBONES,
    ),
)
