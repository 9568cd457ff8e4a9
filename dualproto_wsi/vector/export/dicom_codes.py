"""Codes of tissue classes for DICOM."""

from __future__ import annotations

CATEGORY = {
    "tissue": ("85756007", "SCT", "Tissue"),
    "abnormal": ("49755003", "SCT", "Morphologically Abnormal Structure"),
    "cell": ("4421005", "SCT", "Cell"),
}
"""Segmented property category (CID 7150, CID 8135): code, scheme, meaning."""

OWN_SCHEME = "99DUALPROTO"
"""Coding scheme of classes that have no SNOMED CT code here: CLASS1, CLASS2 …, their meaning is the class's name."""

_TUMOR = ("abnormal", "108369006", "Neoplasm")
_CONNECTIVE = ("tissue", "21793004", "Connective tissue")
_LYMPHOCYTE = ("cell", "56972008", "Lymphocyte")
_NECROSIS = ("abnormal", "6574001", "Necrosis")

TYPES = {
    **dict.fromkeys(("tumor", "tumour", "neoplasm", "carcinoma"), _TUMOR),
    **dict.fromkeys(("stroma", "connective tissue"), _CONNECTIVE),
    **dict.fromkeys(("lymphocyte", "lymphocytes"), _LYMPHOCYTE),
    **dict.fromkeys(("necrosis", "necrotic"), _NECROSIS),
}
"""Segmented property type by the class's name in small letters: category, SNOMED CT code, meaning."""
