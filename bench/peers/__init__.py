"""What nnfast is compared with, one file each."""
