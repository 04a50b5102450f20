package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// keepTag has events keep their UIDs. A whole dump brings function outbox.tag along. Where only rows were moved, into a schema with
// a tag of its own, the row of outbox.cluster that came with the events has theirs, and the function is made anew.
func keepTag(ctx context.Context, tx pgx.Tx) error {
	var tag int
	err := tx.QueryRow(ctx, `select c.tag from outbox.cluster c where c.tag <> outbox.tag() order by c.origin limit 1`).Scan(&tag)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, fmt.Sprintf(`create or replace function outbox.tag() returns integer language sql stable as 'select %d'`, tag))
	return err
}
