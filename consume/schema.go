package consume

import _ "embed"

// Schema is the SQL that creates the inbox: the schema "inbox" with its tables
// and functions. It can be run again, and on an inbox of an earlier version.
//
//go:embed schema.sql
var Schema string
