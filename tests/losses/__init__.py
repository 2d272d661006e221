"""Tests of the losses.

A file for each module of `monai_jdt/losses` beside the JDT family: `test_class_weight`, `test_distillation`, `test_deep_supervision`,
`test_lovasz`, `test_distance`, `test_metric_choice`, and `test_companions` for what holds for all of these losses. The JDT family has
a file for each promise:

* values and gradients: `test_values` (numbers by hand), `test_random_configurations` (the norm form), `test_gradients`
* 1, 3, 6, 11, laws: `test_laws`, `test_metric_laws`
* 2, precision: `test_precision`, `test_no_float64`
* 5, ignored voxels and nothing to count: `test_ignored`
* 7, errors: `test_errors`
* 8, inputs of any origin, layout and shape: `test_inputs`
* 9, compile, export, vmap, meta tensors: `test_compile_export_vmap`
* 10, state: `test_state`
* MONAI's values, calls and pipelines: `test_monai_parity`, `test_coming_from_monai`, `test_in_a_pipeline`

`strategies` draws random configurations; `conftest` runs some files on the fast kernels too.
"""
