"""Pixels of films and masks from files: PNG, JPEG, TIFF, DICOM."""
