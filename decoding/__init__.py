"""What `translator` consists of: runs read into models, and several models as one."""
