"""Turn segmented folders into datasets with both masks, in the layouts that training programs read."""
