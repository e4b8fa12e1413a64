"""From what was measured to what is read: records, tables, the page, and what got slower. No figure is ever typed."""
