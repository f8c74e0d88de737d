"""Models of images: reading, processors, timm."""
