"""The train stage: fine-tuning with TRL, PEFT and Accelerate."""
