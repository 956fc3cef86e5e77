"""The page for people: studies, decisions, work. Server-rendered; what it can do, the JSON API can do as well."""

from dicom_node.page.routes import page_routes

__all__ = ["page_routes"]
