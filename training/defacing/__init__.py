"""Simulate the effect of known defacing tools on a head, with the exact mask of the changed voxels.

Written from the published descriptions of the tools. No code or data of theirs is used except pydeface's mask, which
comes with its package. ``cuts`` removes tissue, ``altering`` replaces a face by a blurred, another or an average one,
``fills`` defines what is written where tissue was removed.

References
----------
A. Bischoff-Grethe et al., A technique for the deidentification of structural brain MR images, Human Brain Mapping 28
(2007), mri_deface. N. Schimke and J. Hale, Quickshear defacing for neuroimages, USENIX HealthSec (2011). F.
Alfaro-Almagro et al., Image processing and quality control for the first 10,000 brain imaging datasets from UK Biobank,
NeuroImage 166 (2018), fsl_deface. C. G. Schwarz et al., Changing the face of neuroimaging research: comparing a new MRI
de-facing technique with popular alternatives, NeuroImage 231 (2021), mri_reface.
"""

from training.defacing.families import ALTERED, FAMILIES, NEED_DONORS, REMOVED, deface
from training.defacing.fills import MANY_NOISY
from training.defacing.scene import Change, Scene

__all__ = ["ALTERED", "FAMILIES", "MANY_NOISY", "NEED_DONORS", "REMOVED", "Change", "Scene", "deface"]
