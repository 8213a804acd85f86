"""What several trainers are built on."""
