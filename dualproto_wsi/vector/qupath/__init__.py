"""What QuPath's GeoJSON reader makes of a file, version by version, without QuPath.

``rules``    the table: what differs between the versions
``gson``     JSON as QuPath's parser takes it: more than the standard allows
``shapes``   a GeoJSON geometry → rings, and what every version refuses in it
``features`` a Feature → what is to become an object
``rois``     rings → the regions that a version holds, or the reason for which it refuses them
``contents`` a file → all that versions agree on
``objects``  the objects that a version holds
``remarks``  what to tell the file's owner
``reading``  all of it, for a file and a version
"""
