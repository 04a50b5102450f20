package engine

import "fmt"

// windowBytes bounds the memory of one window, and of the deliveries of one claim: the event that exceeds it is the last.
const windowBytes = 16 << 20

// sentBytes returns an SQL expression for how many bytes of payload and headers a row sends, about. It decompresses what is stored
// compressed, and reads nothing else that is stored beside the row.
func sentBytes(row string) string {
	of := func(column string) string {
		return fmt.Sprintf(`case when pg_column_compression(%[1]s.%[2]s) is null then pg_column_size(%[1]s.%[2]s) else octet_length(%[1]s.%[2]s::text) end`, row, column)
	}
	return of("payload") + " + " + of("headers")
}

// smallRow returns an SQL expression for whether a row sends at most $14 bytes, for all that can be told without decompressing it.
func smallRow(row string) string {
	of := func(column string) string {
		return fmt.Sprintf(`pg_column_size(%[1]s.%[2]s) <= $14::bigint and pg_column_compression(%[1]s.%[2]s) is null`, row, column)
	}
	return of("payload") + " and " + of("headers")
}
