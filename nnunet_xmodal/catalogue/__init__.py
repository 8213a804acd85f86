"""What there is to train and to plan with: names, papers, and what each needs. Imports nothing heavy."""
