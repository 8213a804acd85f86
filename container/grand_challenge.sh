#!/bin/sh
# One case in Grand Challenge's layout: /input/images/<socket>/*.mha in, /output/images/<socket>/*.mha out, the model
# (a folder or a zip of nnUNetXModal_export) in /opt/ml/model.
#
#   CHANNELS  "T2W=transverse-t2-prostate-mri ADC=transverse-adc-prostate-mri": channel of the model = socket
#   ANSWER    socket of the answer
#   FLAGS     further ones of nnUNetXModal_predict, e.g. "--register -f 0"
#   INPUT, OUTPUT, MODEL  other places than the above
set -eu
input=${INPUT:-/input} output=${OUTPUT:-/output} model=${MODEL:-/opt/ml/model}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for zip in "$model"/*.zip; do
    if [ -f "$zip" ]; then model=$zip; fi
done
echo "case,channel,file" > "$work/scans.csv"
for word in $CHANNELS; do
    socket=${word#*=}
    file=$(find "$input/images/$socket" -type f | sort | head -n 1)
    if [ -z "$file" ]; then
        echo "error: $input/images/$socket holds no image, and $word asks for one." >&2
        exit 2
    fi
    echo "case,${word%%=*},\"$file\"" >> "$work/scans.csv"
done
device=$(python3 -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')
# shellcheck disable=SC2086  # flags are words
nnUNetXModal_predict -m "$model" --scans "$work/scans.csv" -o "$work/predicted" -npp 0 -nps 0 -device "$device" \
    --disable_progress_bar ${FLAGS:-}
mkdir -p "$output/images/$ANSWER"
python3 - "$work/predicted/case.nii.gz" "$output/images/$ANSWER/output.mha" <<'EOF'
import sys

import SimpleITK as sitk

from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.files.volume_writer import write_volume


@one_sentence_errors
def write() -> None:
    answer = sitk.ReadImage(sys.argv[1])
    for key in answer.GetMetaDataKeys():  # of NIfTI, which ITK would warn about one by one
        answer.EraseMetaData(key)
    write_volume(answer, sys.argv[2], compress=True)


write()
EOF
