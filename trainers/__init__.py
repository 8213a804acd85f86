"""Every trainer by name, each imported only when asked for.

Beside the names of the table, `<trainer>_<N>epochs` and `<trainer>_<N>epochs_<M>its` (M iterations per epoch, a
fifth of them for validation) exist for every trainer here and for nnU-Net's own `nnUNetTrainer`.
"""

from importlib import import_module

_MODULE_OF = {
    "nnUNetTrainerMultiStream": "multi_stream",
    "nnUNetTrainerSCFF": "csad",
    "nnUNetTrainerCSADNoSCFF": "csad",
    "nnUNetTrainerCSAD": "csad",
    "nnUNetTrainerCSADPLC": "csad",
    "nnUNetTrainerCSADPrinted": "csad",
    "nnUNetTrainerCSADPrintedNoSCFF": "csad",
    "nnUNetTrainerCSADPrintedPLC": "csad",
    "nnUNetTrainerCSADPrintedEarlyFusion": "csad",
    "nnUNetTrainerCSADPrintedLateFusion": "csad",
    "nnUNetTrainerCSADMean": "csad",
    "nnUNetTrainerCSADEarlyFusion": "csad",
    "nnUNetTrainerCSADLateFusion": "csad",
    "nnUNetTrainerCSADPaper": "csad_paper",
    "nnUNetTrainerCSADGradientShare": "csad",
    "nnUNetTrainerCSADFA": "attention",
    "nnUNetTrainerFA": "attention",
    "nnUNetTrainerSA": "attention",
    "nnUNetTrainerDualAttention": "attention",
    "nnUNetTrainerRSA": "attention",
    "nnUNetTrainerAG": "attention",
    "nnUNetTrainerFAPaper": "folded_attention_paper",
    "nnUNetTrainerCMFT": "cmft",
    "nnUNetTrainerCMFTCheckpointed": "cmft",
    "nnUNetTrainerCMFTIdentity": "cmft",
    "nnUNetTrainerCMFTUnpaired": "cmft",
    "nnUNetTrainerCMFTTumour": "cmft",
    "nnUNetTrainerCMFTPaired": "cmft_paired",
    "nnUNetTrainerCMFTPairedL1": "cmft_paired",
    "nnUNetTrainerCMFTPaper": "cmft_cmff_paper",
    "nnUNetTrainerCMFFPaper": "cmft_cmff_paper",
    "nnUNetTrainerSelfReconstruction": "self_reconstruction",
    "nnUNetTrainerCMFF": "cmff",
    "nnUNetTrainerCMFFDice": "cmff",
    "nnUNetTrainerCMFFNoMask": "cmff",
    "nnUNetTrainerCMFFCBAM": "cmff",
    "nnUNetTrainerCMFFMean": "cmff",
    "nnUNetTrainerCMFFStreamA": "cmff",
    "nnUNetTrainerCMFFStreamB": "cmff",
    "nnUNetTrainerAttentionReg": "registration",
    "nnUNetTrainerAttentionRegLabel": "registration",
    "nnUNetTrainerAttentionRegPaper": "registration",
    "nnUNetTrainerFeatureReg": "registration",
    "nnUNetTrainerCorrespondenceReg": "registration",
    "nnUNetTrainerCorrespondenceRegStage2": "registration",
    "nnUNetTrainerAttentionRegStage2": "registration",
    "nnUNetTrainerQSM": "susceptibility",
    "nnUNetTrainerQSMFA": "susceptibility",
    "nnUNetTrainerQSMSA": "susceptibility",
    "nnUNetTrainerQSMDualAttention": "susceptibility",
    "nnUNetTrainerQSMRSA": "susceptibility",
    "nnUNetTrainerQSMDirect": "susceptibility_direct",
    "nnUNetTrainerQSMFADirect": "susceptibility_direct",
    "nnUNetTrainerQSMSADirect": "susceptibility_direct",
    "nnUNetTrainerQSMDualAttentionDirect": "susceptibility_direct",
    "nnUNetTrainerQSMRSADirect": "susceptibility_direct",
    "nnUNetTrainerCRTP": "few_shot",
    "nnUNetTrainerCRBase": "few_shot",
    "nnUNetTrainerCRMask": "few_shot",
    "nnUNetTrainerALP": "few_shot",
    "nnUNetTrainerPANet": "few_shot",
    "nnUNetTrainerCRTPR18": "few_shot",
    "nnUNetTrainerCRBaseR18": "few_shot",
    "nnUNetTrainerCRMaskR18": "few_shot",
    "nnUNetTrainerALPR18": "few_shot",
    "nnUNetTrainerPANetR18": "few_shot",
    "nnUNetTrainerCRTPLite": "few_shot",
    "nnUNetTrainerCRBaseLite": "few_shot",
    "nnUNetTrainerCRMaskLite": "few_shot",
    "nnUNetTrainerALPLite": "few_shot",
    "nnUNetTrainerPANetLite": "few_shot",
    "nnUNetTrainerCRTPOneSuperpixel": "few_shot",
    "nnUNetTrainerALPOneSuperpixel": "few_shot",
    "nnUNetTrainerPANetOneSuperpixel": "few_shot",
    "nnUNetTrainerCRTPOneSuperpixelR18": "few_shot",
    "nnUNetTrainerALPOneSuperpixelR18": "few_shot",
    "nnUNetTrainerPANetOneSuperpixelR18": "few_shot",
    "nnUNetTrainerRPNet": "few_shot",
    "nnUNetTrainerRPNetR18": "few_shot",
    "nnUNetTrainerRPNetLite": "few_shot",
    "nnUNetTrainerCRAPNet": "few_shot",
    "nnUNetTrainerCRAPNetR18": "few_shot",
    "nnUNetTrainerCRAPNetLite": "few_shot",
    "nnUNetTrainerDVNet": "registration",
    "nnUNetTrainerMSReg": "registration",
    "nnUNetTrainerHyperDenseNet": "hyper_dense_net",
    "nnUNetTrainerOctopusNet": "octopus_net",
    "nnUNetTrainerFuseUNet": "fuse_unet",
    "nnUNetTrainerHSCNet": "hsc_net",
    "nnUNetTrainerMultiResUNet": "multi_res_unet",
    "nnUNetTrainerUNetPlusPlus": "unet_plus_plus",
    "nnUNetTrainermmFormer": "mm_former",
    "nnUNetTrainerStream0": "single_stream",
    "nnUNetTrainerStream1": "single_stream",
    "nnUNetTrainerStream2": "single_stream",
    "nnUNetTrainerStream3": "single_stream",
    "nnUNetTrainerMultiStreamDropout": "stream_dropout",
    "nnUNetTrainerAnyStreams": "any_streams",
    "nnUNetTrainerAnyStreamsDistilled": "any_streams",
    "nnUNetTrainerZeroFill": "channel_dropout",
    "nnUNetTrainerChannelDropout": "channel_dropout",
    "nnUNetTrainerSCFFDropout": "stream_dropout",
    "nnUNetTrainerCSADDropout": "stream_dropout",
    "nnUNetTrainerCMFFDropout": "stream_dropout",
    "nnUNetTrainerStreamGates": "stream_exchange",
    "nnUNetTrainerStreamGatesDropout": "stream_exchange",
    "nnUNetTrainerSCFFLevels": "stream_exchange",
    "nnUNetTrainerSCFFLevelsDropout": "stream_exchange",
    "nnUNetTrainerFALiteral": "attention",
}

TRAINERS = tuple(_MODULE_OF)
"""Names of all trainers, without those of a given length."""


def __getattr__(name: str) -> type:
    if name in _MODULE_OF:
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    # only names that can be trainers: import machinery asks for __path__ and the like
    if name.startswith("nnUNetTrainer"):
        from nnunet_xmodal.trainers.base.lengths import trainer_of_length

        trainer = trainer_of_length(name)
        if trainer is not None:
            return trainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *TRAINERS])
