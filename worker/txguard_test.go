package worker

import "testing"

// TestEffectOf has the guard tell statements that end a transaction from those that look like it.
func TestEffectOf(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]effect{
		"commit": ends, "  COMMIT ;": ends, "end": ends, "abort": ends, "rollback": ends, "Rollback Work": ends, "commit and chain": ends,
		"rollback to sp_1": harmless, "rollback work to savepoint x": harmless, "rollback transaction to x": harmless, "savepoint x": harmless,
		"select 1; commit": ends, "select 'a;commit'": harmless, `select ";commit" from t`: harmless, "select $$;commit;$$": harmless, "select $a$;commit;$b$;$a$": harmless,
		"/* a /* b */ */ commit": ends, "-- nothing\ncommit": ends, "select 1 -- ;commit": harmless, "update t set a = $1; rollback": ends,
		"prepare transaction 'x'": ends, "prepare x as select 1": sets, "set local role a": sets, "reset all": sets, "select set_config('a.b', 'c', true)": sets,
		"update t set a = 1": harmless, "": harmless, "select $1, $2 from t": harmless, "'": harmless, "$": harmless, "/*": harmless, "select 'it''s; commit'": harmless,
	} {
		got := harmless
		for statement := range statements(sql) {
			got = max(got, effectOf(statement))
		}
		if got != want {
			t.Errorf("%q: got %v, want %v", sql, got, want)
		}
	}
}
