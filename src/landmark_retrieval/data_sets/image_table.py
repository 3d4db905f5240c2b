"""The image table: how any data set enters the project, and the row order of every array.

Columns: `image_id` str, `path` str (absolute or relative to the table's folder), `split` in
{query, index, train}, `landmark_id` nullable Int64, `landmark` nullable str, `usage` nullable str in
{Public, Private, Ignored}. After `prepare_image_table` the rows are ordered query, index, train (the order
of the file is kept inside a split), so a split is one contiguous slice of rows.
"""
