package engine

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/outbox"
)

// ScanSetup keeps the planner to index scans, as readSetup does, and from sorting what is in order already. It lasts until the
// transaction ends. Where row security would hide rows, it has statements fail: retention must see every cursor.
const ScanSetup = `
select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true),
       set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('max_parallel_workers_per_gather', '0', true), set_config('jit', 'off', true), set_config('row_security', 'off', true)`

// Scanning calls do in a transaction for which ScanSetup holds.
func Scanning(ctx context.Context, db outbox.Database, do func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, ScanSetup); err != nil {
			return err
		}
		return do(tx)
	})
}
