"""What all models with transformers' interface share: one class with helpers beside it."""
