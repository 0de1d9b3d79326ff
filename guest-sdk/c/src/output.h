/* What a call hands back beside its states: emissions, rejections and metrics. Nothing here is for operators. */
#ifndef FLOODMARK_OUTPUT_H
#define FLOODMARK_OUTPUT_H

#include "contract.h"

/* Forgets what the call before has emitted. */
void fmi_begin_output(const fmi_batch *batch, const fm_operator *of);
/* Where this record emits. */
fm_output *fmi_output_of(const fm_record *record);
void fmi_end_output(fmi_output *output);
/* Hands over the numbers of a call, or drops them. */
void fmi_hand_over_metrics(bool is_wanted);

#endif
