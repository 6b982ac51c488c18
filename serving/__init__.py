"""The web server: requests decoded together, the application, its page."""
