"""Learning from a teacher: trained networks (distillation), or the average of the student itself (mean teacher).

* `ensemble`: a teacher of trained networks. `mean_teacher`: the moving average of the student.
* `prepare_batch`: what a teacher says of a batch, for MONAI's trainer. `targets`: labels and that, as one target.
* `teacher_losses`: the losses of such a target. `two_lists`: cases with and without a label in every batch.
"""

from monai_jdt.teachers.ensemble import TeacherEnsemble, load_teachers
from monai_jdt.teachers.mean_teacher import MeanTeacher
from monai_jdt.teachers.prepare_batch import TeacherPrepareBatch
from monai_jdt.teachers.targets import TeacherTarget
from monai_jdt.teachers.teacher_losses import SemiSupervisedLoss, TeacherStudentLoss, sums_over_ranks
from monai_jdt.teachers.two_lists import LabelledAndUnlabelled, reads_votes

__all__ = [
    "LabelledAndUnlabelled",
    "MeanTeacher",
    "SemiSupervisedLoss",
    "TeacherEnsemble",
    "TeacherPrepareBatch",
    "TeacherStudentLoss",
    "TeacherTarget",
    "load_teachers",
    "reads_votes",
    "sums_over_ranks",
]
