package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A bug is a deliberate mistake, and the test that has to notice it.
type bug struct {
	name, harm string
	edits      []edit
	pkg, run   string // the test: a package, and the name of its test
}

// An edit replaces a text that a file has exactly once.
type edit struct{ file, from, to string }

func (b bug) test() string { return b.pkg + " " + b.run }

// apply makes the edits in a tree.
func (b bug) apply(dir string) error {
	for _, e := range b.edits {
		path := filepath.Join(dir, e.file)
		raw, err := os.ReadFile(path) //nolint:gosec // from our own list
		if err != nil {
			return err
		}
		if n := strings.Count(string(raw), e.from); n != 1 {
			return fmt.Errorf("%s has %d times %q, want once: the code has changed, so has the bug to", e.file, n, e.from)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(raw), e.from, e.to, 1)), 0o644); err != nil { //nolint:gosec // a source tree
			return err
		}
	}
	return nil
}

const schema = "migrations/outbox/001_outbox.sql"

var bugs = []bug{
	{
		name: "naive pending", harm: "forgets transactions at and above a snapshot's xmax, which run in no list: loses events",
		edits: []edit{{"internal/engine/xids.go", "return newXids(append(spans, span{s.xmax, next})...)", "return newXids(spans...)"}},
		pkg:   "./internal/engine", run: "TestCursorLosesNothing",
	},
	{
		name: "column order", harm: "an event takes its id before its transaction has an xid: loses events",
		edits: []edit{
			{schema, "    xid          xid8           not null default pg_catalog.pg_current_xact_id(),\n", ""},
			{schema, "    lane         smallint       not null generated", "    xid          xid8           not null default pg_catalog.pg_current_xact_id(),\n    lane         smallint       not null generated"},
		},
		pkg: "./migrations", run: "TestLoadBearingFacts",
	},
	{
		name: "sequence cache", harm: "a session hands out old ids late: loses events",
		edits: []edit{{schema, "id           bigint         not null generated always as identity (cache 1)", "id           bigint         not null generated always as identity (cache 50)"}},
		pkg:   "./internal/engine", run: "TestStress",
	},
	{
		name: "head from the row", harm: "takes the last id from the sequence's row, which may be 32 ahead: loses events",
		edits: []edit{{
			"internal/engine/head.go", "select pg_sequence_last_value('outbox.events_id_seq') from outbox.events_id_seq",
			"select last_value from outbox.events_id_seq where is_called",
		}},
		pkg: "./internal/engine", run: "TestHeadIsNeverAhead",
	},
	{
		name: "head behind a cursor", harm: "takes a log whose ids went back for one in which nothing is new: loses what is published below its cursors",
		edits: []edit{{
			"internal/engine/read.go", "return slices.Max(c.after) > got.head", "return false && slices.Max(c.after) > got.head",
		}},
		pkg: "./internal/engine", run: "TestBehind",
	},
	{
		name: "log not looked at", harm: "does not look at the log while it serves: a worker without lanes, or whose rows are hidden, notices nothing",
		edits: []edit{{"worker/control.go", "time.Since(looked) >= logEvery", "time.Since(looked) >= 1000*logEvery"}},
		pkg:   "./worker", run: "TestLogWentBack",
	},
	{
		name: "schema not looked at", harm: "does not look at the schema's version while it serves: goes on where the schema does not serve it any more",
		edits: []edit{{"worker/control.go", "if err := migrations.For(s.w.cfg.Outbox).Check(ctx, s.control); err != nil {", "if err := migrations.For(s.w.cfg.Outbox).Check(ctx, s.control); err != nil && ctx.Err() != nil {"}},
		pkg:   "./worker", run: "TestLogWentBack",
	},
	{
		name: "caught up", harm: "forgets that ids were behind once they are beyond the cursors again: loses what was published until then",
		edits: []edit{{schema, "update outbox.cluster c set behind_since = here.behind_since;", "null;"}},
		pkg:   "./internal/engine", run: "TestBehind",
	},
	{
		name: "hidden rows", harm: "lets cursors pass what row security hides: loses events",
		edits: []edit{{"internal/engine/read.go", ", set_config('row_security', 'off', true)`", "`"}},
		pkg:   "./internal/engine", run: "TestRowSecurity",
	},
	{
		name: "a dump in a copy", harm: "takes a dump for native in a physical copy of its cluster: waits for transactions that are others here",
		edits: []edit{{
			schema, "\n                             and c.relations = array['outbox.events'::regclass::oid, 'outbox.topic'::regtype::oid]), false)", "), false)",
		}},
		pkg: "./worker", run: "TestMoved",
	},
	{
		name: "sequences left behind", harm: "does not raise sequences as rows are replicated: publishers take ids below the cursors",
		edits: []edit{{
			schema, "    if coalesce(pg_catalog.pg_sequence_last_value(sequence), 0) < number then\n        -- Tables", "    if false then\n        -- Tables",
		}},
		pkg: "./worker", run: "TestMoved",
	},
	{
		name: "replication unnoticed", harm: "takes events that were replicated into a copy of the files for native: repeats what has the transaction ids of others here",
		edits: []edit{{schema, "if new.xid <> pg_current_xact_id() then", "if false then"}},
		pkg:   "./cmd/outbox", run: "TestMigrateAdopts",
	},
	{
		name: "pg_upgrade believed", harm: "goes on after pg_upgrade without a look at transaction ids: those that are yet to come are waited for twice",
		edits: []edit{{"internal/engine/move.go", "case waited >= next:", "case false:"}},
		pkg:   "./cmd/outbox", run: "TestMigrateAdopts",
	},
	{
		name: "given what was seen", harm: "gives a subscription all that was read for several, also what it had before: repeats events",
		edits: []edit{{"internal/engine/difference.go", " || m.seen.sees(d.xids[i]) {", " {"}},
		pkg:   "./internal/engine", run: "TestStressTogether",
	},
	{
		name: "older by xmax alone", harm: "takes a snapshot for the oldest that has seen more than another one with the same xmax: loses events",
		edits: []edit{{"internal/engine/xids.go", " || s.xmax == other.xmax && len(s.xip) > len(other.xip)", ""}},
		pkg:   "./internal/engine", run: "TestOlder",
	},
	{
		name: "all at one place", harm: "records where one subscription stands for all that settle together: repeats or loses events",
		edits: []edit{{"internal/engine/settle.go", "return at.cursor.equal(c)", "return true"}},
		pkg:   "./internal/engine", run: "TestSettleTogether",
	},
	{
		name: "all the time of a transaction", harm: "lets a key take what time it wants of a window that is handled in one transaction: all others wait for seconds",
		edits: []edit{{"worker/keytimes.go", "return spent >= tailTime &&", "return spent >= time.Hour &&"}},
		pkg:   "./worker", run: "TestBusyKeyInTx",
	},
	{
		name: "read together too early", harm: "reads by difference for a member that is not at the end of its lanes: loses events",
		edits: []edit{{"internal/engine/read.go", "if !w.full && len(m.Full) == 0 {", "if len(m.Full) == 0 {"}},
		pkg:   "./internal/engine", run: "TestStressTogether",
	},
	{
		name: "full window lost", harm: "moves the cursors of a subscription that has no room for what was read, and drops it: loses events",
		edits: []edit{{"worker/reader.go", "		f.member.PutBack(w)\n		f.expel()\n", "		f.expel()\n"}},
		pkg:   "./worker", run: "TestFallsBehindAlone",
	},
	{
		name: "pages by ids alone", harm: "gives a subscription what was read at the same ids for another one, although it still waits for other transactions: loses events, repeats others",
		edits: []edit{{"internal/engine/cursor.go", "o.after != c.after[j] || !o.cursor.pending.equal(c.pending) ||", "o.after != c.after[j] ||"}},
		pkg:   "./internal/engine", run: "TestPagesOfOtherCursors",
	},
	{
		name: "pages of other topics", harm: "gives a subscription what was read without its topics: loses events",
		edits: []edit{{"internal/engine/page.go", "if !p.topics.Covers(pattern) {", "if false && !p.topics.Covers(pattern) {"}},
		pkg:   "./internal/engine", run: "TestPagesOfOtherTopics",
	},
	{
		name: "pages for nobody", harm: "has each subscription read its backlog for itself: ten cost as much as ten",
		edits: []edit{{"worker/session.go", "			r.member.Share(s.pages, r.sub.WindowSize)\n", ""}},
		pkg:   "./worker", run: "TestBacklogIsReadOnce",
	},
	{
		name: "memory without limit", harm: "has each subscription read ahead as much as if it were the only one: many of them take all memory",
		edits: []edit{{"worker/session.go", "		r.member.Limit(r.windowBytes())\n", ""}},
		pkg:   "./worker", run: "TestMemory",
	},
	{
		name: "merged pending", harm: "lists the pending transactions of claimed lanes for all lanes: repeats events that are settled",
		edits: []edit{{
			"internal/engine/lane.go", "	return lanes, nil\n}\n\n// Release",
			"	for i := range m.cursors {\n		for _, c := range m.cursors {\n			m.cursors[i].pending = newXids(append(append(xids(nil), m.cursors[i].pending...), c.pending...)...)\n		}\n	}\n	return lanes, nil\n}\n\n// Release",
		}},
		pkg: "./internal/engine", run: "TestClaimedPending",
	},
	{
		name: "long and late", harm: "has the read for a long event look for it in other lanes than those that have it: it is never read while both have something",
		edits: []edit{{"internal/engine/late.go", "	if !m.long {", "	if !m.caughtUp || m.caughtUp {"}},
		pkg:   "./internal/engine", run: "TestLongLateEvents",
	},
	{
		name: "no fence", harm: "a worker that was taken for dead records what it did since",
		edits: []edit{{"internal/engine/member.go", "`select outbox.fence($1, $2)`", "`select $1::bigint, $2::integer[]`"}},
		pkg:   "./internal/engine", run: "TestEvictedSettlesNothing",
	},
	{
		name: "eviction without folding", harm: "forgets how far a dead worker got: repeats everything since it claimed its lanes",
		edits: []edit{{"internal/engine/worker.go", "{foldSQL, foldHandledSQL,", "{foldHandledSQL,"}},
		pkg:   "./internal/engine", run: "TestEvictionWaitsForSettle",
	},
	{
		name: "stale fold", harm: "folds what was settled before the eviction began, and not what it waited for",
		edits: []edit{{"internal/engine/worker.go", "pgx.TxOptions{IsoLevel: pgx.ReadCommitted}", "pgx.TxOptions{IsoLevel: pgx.RepeatableRead}"}},
		pkg:   "./internal/engine", run: "TestEvictionWaitsForSettle",
	},
	{
		name: "eviction that waits for an operator", harm: "does not take from a dead worker what it owns while somebody has locked one of its deliveries: nobody serves its subscriptions",
		edits: []edit{{"internal/engine/worker.go", "where d.owner = $1 for update skip locked", "where d.owner = $1 for update"}},
		pkg:   "./internal/engine", run: "TestEvictionWaitsForNoOperator",
	},
	{
		name: "settled by others too early", harm: "has other subscriptions record a window before its handlers have returned: a kill loses it",
		edits: []edit{{
			"worker/turn.go", "	if suspect && len(window.Events) > 0 {\n",
			"	r.offer()\n	if suspect && len(window.Events) > 0 {\n",
		}},
		pkg: "./worker", run: "TestSettledWhenHandled",
	},
	{
		name: "settled beside a transaction", harm: "has other subscriptions record progress while a transactional handler is under way: effects count twice",
		edits: []edit{{
			"worker/handletx.go", "	r.begun, r.waitedFrom, r.probing = time.Now(), time.Time{}, r.breaker.open()\n	var again",
			"	r.offer()\n	r.begun, r.waitedFrom, r.probing = time.Now(), time.Time{}, r.breaker.open()\n	var again",
		}},
		pkg: "./worker", run: "TestSettledWhenHandled",
	},
	{
		name: "locks in another order", harm: "evicts a worker in another order than it settles for several subscriptions: they wait for each other until the server ends one",
		edits: []edit{{"internal/engine/worker.go", " from outbox.workers w where w.id = $1 for update`", " from outbox.workers w where w.id = $1`"}},
		pkg:   "./internal/engine", run: "TestLocksInOrder",
	},
	{
		name: "settled too early", harm: "records a window before its handlers have returned: a kill loses it",
		edits: []edit{{
			"worker/turn.go", "	if suspect && len(window.Events) > 0 {\n",
			"	if err := r.settle(ctx); err != nil {\n		return false, err\n	}\n	if suspect && len(window.Events) > 0 {\n",
		}},
		pkg: "./worker", run: "TestKilledInWindow",
	},
	{
		name: "arming without waiting", harm: "takes the doorbell for armed while somebody publishes without ringing: events wait for the next poll",
		edits: []edit{{"internal/engine/bell.go", "`select pg_advisory_lock(`+LockClass", "`select pg_try_advisory_lock(`+LockClass"}},
		pkg:   "./internal/engine", run: "TestBell",
	},
	{
		name: "full lane passes", harm: "moves the cursor of a lane that is not read along with the others: loses its events",
		edits: []edit{{"internal/engine/collect.go", "			got.stopped[lane] = after[i]\n", ""}},
		pkg:   "./internal/engine", run: "TestFullLane",
	},
	{
		name: "window not put back", harm: "forgets a window that was read ahead when lanes change hands: loses its events",
		edits: []edit{{"worker/ahead.go", "		r.member.PutBack(r.ahead.window)\n", ""}},
		pkg:   "./worker", run: "TestBacklogIsShared",
	},
	{
		name: "tried out of order", harm: "tries what waits behind a failed event of its key: breaks order by key",
		edits: []edit{{"internal/engine/delivery.go", "where k.key <> '' and r.ready\n", "where k.key <> ''\n"}},
		pkg:   "./internal/engine", run: "TestLineOfAKey",
	},
	{
		name: "head passed by", harm: "tries what is behind a head that somebody decides about right now: breaks order by key",
		edits: []edit{{"internal/engine/delivery.go", " and (r.tried_head is null or r.tried_head in (select l.event_id from locked l))\n", "\n"}},
		pkg:   "./internal/engine", run: "TestLockedHead",
	},
	{
		name: "line taken for shorter", harm: "forgets a line when as many of it are done as the worker has heard of: breaks order by key",
		edits: []edit{{"worker/turn.go", "		r.backlog.atLeast(id, l.Count)\n", ""}},
		pkg:   "./worker", run: "TestUnheardRetry",
	},
	{
		name: "unnoticed first attempts", harm: "does not make suspects of the first attempts of a dead worker: an event that kills its worker does so for ever",
		edits: []edit{{"internal/engine/worker.go", "set suspect = true\nfrom tried t", "set suspect = d.suspect\nfrom tried t"}},
		pkg:   "./internal/engine", run: "TestFirstAttemptsOfTheDead",
	},
	{
		name: "rows before their cursor", harm: "records what waits behind a retried event before the cursor passes it: it counts twice after a crash",
		edits: []edit{
			{"worker/handletx.go", "r.owed.Window, r.owed.Unfinished, r.owed.Holds = nil, nil, nil", "r.owed.Window = nil"},
			{"worker/handletx.go", "r.owed.Window, r.owed.Unfinished, r.owed.Holds = window, unfinished, holds", "r.owed.Window, _, _ = window, unfinished, holds"},
		},
		pkg: "./worker", run: "TestBehindARetryOnce",
	},
	{
		name: "no isolation", harm: "records a window of a transactional handler after one of its events has failed without undoing it: effects count that should not",
		edits: []edit{{"worker/parts.go", "savepoint.Rollback(context.WithoutCancel(ctx)) != nil", "savepoint.Commit(ctx) != nil"}},
		pkg:   "./worker", run: "TestExactlyOnce|TestForms",
	},
	{
		name: "no deadline", harm: "waits for the answer to a statement for ever: the lanes of a connection that silently passes nothing stand still",
		edits: []edit{{"worker/connect.go", "context.WithTimeoutCause(ctx, s.patience, errSilence)", "context.WithCancel(ctx)"}},
		pkg:   "./worker", run: "TestFrozenConnection",
	},
	{
		name: "another life of the server", harm: "takes a server that has restarted itself for the same, because its start time is: settles what that has lost, and loses what has its ids now",
		edits: []edit{{"internal/engine/server.go", "		select exists (\n", "		select pg_catalog.pg_postmaster_start_time() < pg_catalog.now() or exists (\n"}},
		pkg:   "./worker", run: "TestRestartBetweenConnections",
	},
	{
		name: "any server will do", harm: "settles over a connection that may reach another server, or the same after a restart: loses what that one lacks",
		edits: []edit{{"worker/session.go", "if err := s.serverLock.Check(ctx, conn); err != nil {", "if err := ctx.Err(); err != nil {"}},
		pkg:   "./worker", run: "TestOtherServer",
	},
	{
		name: "all wait for one", harm: "waits for what an operator has locked over the connection that all subscriptions settle over: all of them stop",
		edits: []edit{{"worker/connections.go", "	err := c.waiting.lend(ctx, do)\n", "	err := errNoConnection\n"}, {"worker/connections.go", "writePatience = 250 * time.Millisecond", "writePatience = 250 * time.Second"}},
		pkg:   "./worker", run: "TestLockedDeliveries",
	},
	{
		name: "connection as it was left", harm: "gives a handler's connection to the next window as it is: locks and settings stay",
		edits: []edit{{"worker/txpool.go", "	case l.proxied || l.pg.IsClosed():\n", "	case l.clean.brief != \"\":\n"}},
		pkg:   "./worker", run: "TestLeftovers",
	},
	{
		name: "settings kept for the next event", harm: "handles events of a window with the role and settings of the one before",
		edits: []edit{{"worker/handletx.go", "	if !t.touched {\n		return nil\n	}\n", "	if !t.broken {\n		return nil\n	}\n"}},
		pkg:   "./worker", run: "TestLeftovers",
	},
	{
		name: "end unnoticed", harm: "settles in another transaction than the handlers wrote in: effects are lost",
		edits: []edit{{"worker/handletx.go", "	batch.Queue(`release savepoint ` + windowSavepoint)\n	var state", "	var state"}},
		pkg:   "./worker", run: "TestLeftovers",
	},
	{
		name: "no replacement", harm: "does not go on where a handler ended its goroutine with runtime.Goexit: its event runs for ever, and its key waits",
		edits: []edit{{"worker/batch.go", "	h.group.Go(func() { other.work(ctx) })\n", ""}},
		pkg:   "./worker", run: "TestGuard",
	},
	{
		name: "commit let through", harm: "sends a handler's commit: the effects of other events of its window count twice",
		edits: []edit{{"worker/txguard.go", "		case ends:\n			g.refused.Store(true)\n", "		case ends:\n			return ctx\n"}},
		pkg:   "./worker", run: "TestLeftovers",
	},
	{
		name: "deaf to a full queue", harm: "notifies although the server's queue of notifications is half full: once it is full, commits fail",
		edits: []edit{{schema, "    if not outbox.notifications_stuck() then\n", "    if true then\n"}},
		pkg:   "./worker", run: "TestNotificationsStuck|TestNotificationQueueFull",
	},
	{
		name: "late left to its hold", harm: "leaves a late event that is below where its key is held to the hold, which never looks there: loses it",
		edits: []edit{{
			"worker/held.go", "case l != nil && l.from != 0 && e.ID >= l.from:",
			"case l != nil && l.from != 0:",
		}},
		pkg: "./worker", run: "TestLateOfStuckKey",
	},
	{
		name: "hold begun by a late event", harm: "holds a key from a late event on, although later ones are deliveries already: repeats them",
		edits: []edit{{
			"worker/held.go", " && e.ID > max(l.last, r.answered[id.key]) && r.window.New(e):",
			":",
		}},
		pkg: "./worker", run: "TestLateOfStuckKey",
	},
	{
		name: "hold begun below a row", harm: "holds a key from an event on that is below a delivery of the same window, which is handled before it and again",
		edits: []edit{{"worker/held.go", " && e.ID > max(l.last, r.answered[id.key]) &&", " && e.ID > r.answered[id.key] &&"}},
		pkg:   "./worker", run: "TestHoldAboveItsWindow",
	},
	{
		name: "hold begun below an answer", harm: "holds a pipelined key from an event on that failed, although later ones of its window were answered: repeats them",
		edits: []edit{{"worker/held.go", "max(l.last, r.answered[id.key])", "l.last"}},
		pkg:   "./worker", run: "TestHoldAboveAnswers",
	},
	{
		name: "refill that skips", harm: "moves a hold past all that a refill has looked at, also what its line had no room for: loses events",
		edits: []edit{{
			"internal/engine/hold.go", "coalesce(min(f.id) filter (where not f.taken), greatest(max(h.from_id), max(r.id) + 1)) as from_id",
			"greatest(max(h.from_id), max(r.id) + 1) as from_id",
		}},
		pkg: "./internal/engine", run: "TestRefill|TestHeldKeysLoseNothing",
	},
	{
		name: "nothing for what waits", harm: "gives what waited some milliseconds of a window that takes a second, such as one whose events are handled one by one: it becomes more and more",
		edits: []edit{{
			"worker/handletx.go", "max(moment, min(had, txMost*windowTime-had))",
			"max(moment, 0*had)",
		}},
		pkg: "./worker", run: "TestWaitedHasItsShare",
	},
	{
		name: "refill without an end", harm: "has each refill look at as many events as it may, however long that takes: all that is new waits for it",
		edits: []edit{{
			"worker/held.go", "max(refillLeast, fitting)",
			"max(refillLooks, fitting)",
		}},
		pkg: "./worker", run: "TestLooksFitting",
	},
	{
		name: "refill of what is pending", harm: "takes events of transactions that the cursor waits for, which the next read takes as well: repeats them",
		edits: []edit{{
			"internal/engine/hold.go", "$9::int8multirange @> w.xid or",
			"$9::int8multirange @> w.xid and false or",
		}},
		pkg: "./internal/engine", run: "TestRefillPassesPending",
	},
	{
		name: "refill past the cursor", harm: "refills up to the window that was read ahead, and not to the cursor that is settled: repeats that window",
		edits: []edit{{
			"internal/engine/hold.go", "		return Position{ahead.before}\n",
			"		return Position{m.cursors}\n",
		}},
		pkg: "./internal/engine", run: "TestRefill|TestHeldKeysLoseNothing",
	},
	{
		name: "old before young", harm: "takes of a held key what is older than the retention before what is younger and comes first: breaks order by key",
		edits: []edit{{
			"internal/engine/hold.go", "or bool_and(w.old) over line as taken",
			"or w.old as taken",
		}},
		pkg: "./internal/engine", run: "TestRefillOfOld",
	},
	{
		name: "held and deleted", harm: "deletes what has expired and is held in the log only: loses events",
		edits: []edit{{
			"internal/engine/retention.go", "where h.subscription_id = s.id and h.lane = e.lane and h.key = e.key and h.from_id <= e.id))`",
			"where false and h.subscription_id = s.id and h.lane = e.lane and h.key = e.key and h.from_id <= e.id))`",
		}},
		pkg: "./internal/engine", run: "TestTrimAroundHeld",
	},
	{
		name: "row without its event", harm: "deletes events from the log of which deliveries have no copy: loses them",
		edits: []edit{
			{"internal/engine/retention.go", "e.id and d.payload is null limit 1)", "e.id and d.payload is null and false limit 1)"},
			{"internal/engine/copy.go", "and d.lane = $2 and d.published_at <", "and false and d.lane = $2 and d.published_at <"},
		},
		pkg: "./internal/engine", run: "TestTrimMakesCopies",
	},
	{
		name: "topic that stops others", harm: "opens the breaker for the whole subscription when a topic is away: all others stop, too",
		edits: []edit{{
			"worker/breaker.go", "case down && !r.topics.works(j.ended, nil):", "case down || topicDown:",
		}},
		pkg: "./worker", run: "TestOneTopicIsAway",
	},
	{
		name: "key that passes its topic", harm: "takes a key for free whose first event waits for its topic: breaks order by key",
		edits: []edit{{"worker/backlog.go", "return b.apart[id] != nil, false", "return false, false"}},
		pkg:   "./worker", run: "TestOneTopicIsAway",
	},
	{
		name: "replay within a hold", harm: "replays what a key's hold has yet to hand out: it is handled twice",
		edits: []edit{{
			"outbox/admin/scan.go", "not exists (select from outbox.held_keys h where h.subscription_id = $9 and",
			"not exists (select from outbox.held_keys h where false and h.subscription_id = $9 and",
		}},
		pkg: "./internal/engine", run: "TestReplayWithinHold",
	},
	{
		name: "chain not cut", harm: "lets a window last for as long as its longest chain: one key with many events holds up all others",
		edits: []edit{
			{"worker/turn.go", "return took >= windowMost*windowTime &&", "return took >= 1000*windowMost*windowTime &&"},
			{"worker/turn.go", "b.park(0, most-len(found), tailTime)", "b.park(0, most-len(found), 1000*tailTime)"},
		},
		pkg: "./worker", run: "TestHotKey",
	},
	{
		name: "retries without rest", harm: "tries what failed in each turn of a transaction or a batch: many keys that fail hold up all others",
		edits: []edit{{"worker/again.go", "newWaits && time.Now().Before(p.from)", "newWaits && most == 0"}},
		pkg:   "./worker", run: "TestFailingKeysBesideNew",
	},
	{
		name: "breaker that never closes", harm: "does not read more when what handlers call answers again: the lag stays",
		edits: []edit{{
			"worker/breaker.go", "case 2*p.succeeded >= tried:",
			"case 2*p.succeeded > 2*tried:",
		}},
		pkg: "./worker", run: "TestOutage",
	},
	{
		name: "breaker that opens for retries", harm: "takes keys that always fail for an outage again and again, although others have succeeded: their attempts are never counted, and they never end",
		edits: []edit{{"worker/breaker.go", "if t.failed && b.isOwn(t.first) {", "if t.failed && b.isOwn(t.first) && false {"}},
		pkg:   "./worker", run: "TestAlwaysFailingEnd",
	},
	{
		name: "probe of each lane", harm: "takes an event of each lane for a probe of five: an outage leaves ever more keys that wait",
		edits: []edit{{"internal/engine/collect.go", " || count >= limit && limit < len(lanes)", ""}},
		pkg:   "./internal/engine", run: "TestSmallReads",
	},
	{
		name: "rows that feed on themselves", harm: "reads what joins lines faster than those are worked off: after an outage, nearly the whole log becomes deliveries",
		edits: []edit{{"worker/joins.go", "if !r.backlog.crowded {", "if r.limit >= 0 {"}},
		pkg:   "./worker", run: "TestCatchesUpBehindDeliveries",
	},
	{
		name: "innocents of a window", harm: "counts a failed attempt for each event of a part that fails, and not only for the one that does",
		edits: []edit{{"worker/parts.go", "			continue\n		}\n		for _, j := range part {\n			j.failure = nil\n		}\n", "			continue\n		}\n"}},
		pkg:   "./worker", run: "TestFailingWindowIsHalved",
	},
	{
		name: "order within parts", harm: "goes on with a key in the next part after an event of it has failed: breaks order by key",
		edits: []edit{{"worker/parts.go", "(next >= until || stopped.before(j, next)):", "(next >= until || stopped.before(j, next) && size == 1):"}},
		pkg:   "./worker", run: "TestFailingWindowIsHalved",
	},
	{
		name: "put off and passed", harm: "goes on with a key in a window after an event of it was put off: breaks order by key",
		edits: []edit{{"worker/handletx.go", "r.sub.solo && (left.before(first, 1) || r.tooLate(first))", "r.sub.solo && r.tooLate(first)"}},
		pkg:   "./worker", run: "TestPutOffInOrder",
	},
	{
		name: "put off and passed in parts", harm: "goes on with a key in the next part after an event of it was put off: breaks order by key",
		edits: []edit{{"worker/parts.go", "stopped.leave(part, at)", "stops{}.leave(part, at)"}},
		pkg:   "./worker", run: "TestPutOffInOrder",
	},
	{
		name: "passed in a chain", harm: "goes on with a key in a chain after an event of it was put off for a pause that ends: breaks order by key",
		edits: []edit{{"worker/batch.go", "			j.behind, h.stop = true, true // also", "			j.behind = true // also"}},
		pkg:   "./worker", run: "TestPauseWithinChain",
	},
	{
		name: "passed in a claim", harm: "goes on with a key behind an event of it that its worker must not try: breaks order by key",
		edits: []edit{{"worker/turn.go", "				ended[key] = true\n				continue // not", "				continue // not"}},
		pkg:   "./worker", run: "TestBehindOneThatIsNotTried",
	},
	{
		name: "named behind one", harm: "takes an event for failed that a batch names behind one of its key: it had not what that would have written",
		edits: []edit{{"worker/parts.go", "if j.failure != nil && stopped.before(j, i) {", "if j.failure != nil && stopped.before(j, i) && i < 0 {"}},
		pkg:   "./worker", run: "TestNamedBehindOne",
	},
	{
		name: "time in vain", harm: "counts what was undone as the window's time: it is over before anything is done, again and again",
		edits: []edit{{"worker/parts.go", "		r.leaveOut(took)\n", ""}},
		pkg:   "./worker", run: "TestFailingWindowIsHalved",
	},
	{
		name: "breaker that probes what failed", harm: "reads nothing new while the circuit breaker is open: keys that always fail stop all others",
		edits: []edit{{
			"worker/breaker.go", "r.breaker.open() && now.Before(r.breaker.fresh.next) ||",
			"r.breaker.open() ||",
		}},
		pkg: "./worker", run: "TestAlwaysFailing",
	},
	{
		name: "answer that counts twice", harm: "takes the second answer to an attempt for one to another: settles what was not acknowledged",
		edits: []edit{
			{"worker/dispatch.go", "	if !j.flight.answered.CompareAndSwap(false, true) {\n		return\n	}\n	defer d.group.Done()\n", "	if j.flight.answered.CompareAndSwap(false, true) {\n		defer d.group.Done()\n	}\n"},
		},
		pkg: "./worker", run: "TestAsyncOrder",
	},
	{
		name: "strict keys in flight twice", harm: "begins an event of a key while another one is in flight, although the client does not keep them in order: breaks order by key",
		edits: []edit{{
			"worker/turn.go", "pipelined: r.sub.pipelined,",
			"pipelined: true,",
		}},
		pkg: "./worker", run: "TestAsyncOrder",
	},
	{
		name: "failed behind one that failed", harm: "counts the answers of what is behind a failed event of its key as attempts, and goes on after them: breaks order by key, makes dead letters",
		edits: []edit{{
			"worker/dispatch.go", "		j.behind = true\n	}\n	switch {\n",
			"		j.behind = false\n	}\n	switch {\n",
		}},
		pkg: "./worker", run: "TestAsyncBehind",
	},
	{
		name: "windows that wait for their last few", harm: "has what is new wait for one slow answer, of a webhook endpoint among a thousand",
		edits: []edit{{
			"worker/turn.go", "return r.sub.begin != nil && !r.sub.pipelined && r.sub.ParkAfter < unlimited",
			"return false",
		}},
		pkg: "./worker", run: "TestAsyncLastFew",
	},
	{
		name: "a window waits for what has returned", harm: "stops a subscription for good when a client loses more messages than may be parked",
		edits: []edit{{"worker/turn.go", "r.sub.Concurrency - int(r.unreturned.Load())", "r.sub.Concurrency - len(r.parked)"}},
		pkg:   "./worker", run: "TestAsyncAllUnanswered",
	},
	{
		name: "no time for a suspect", harm: "has an event that a dead worker left wait for a minute when a window has no time for it",
		edits: []edit{{"worker/record.go", "if (!j.behind || alone) && ", "if !j.behind && "}, {"worker/record.go", "	alone := j.counted &&", "	_ = j.counted &&"}},
		pkg:   "./worker", run: "TestNoTimeForAll",
	},
	{
		name: "suspects that were not begun", harm: "has events that a dead worker left wait for a minute when an outage begins before their turn",
		edits: []edit{{"worker/turn.go", "	for _, head := range b.heads {\n		r.goOnUnbegun(b, head)\n	}\n", ""}},
		pkg:   "./worker", run: "TestSuspectsNotBegun",
	},
	{
		name: "a wait for the rate settles", harm: "takes an event that waits for its rate when the one before it in its key is parked for delivered: loses it",
		edits: []edit{{"worker/dispatch.go", "			j.state.Store(waiting)\n			j.behind = true\n", ""}},
		pkg:   "./worker", run: "TestAsyncParksBesideRate",
	},
	{
		name: "a head that is not tried holds up nothing", harm: "handles what waits behind a dead letter that stops its key, or behind what another worker has to handle: breaks order by key",
		edits: []edit{{"worker/turn.go", "ended[key] = r.blocks(", "ended[key] = false && r.blocks("}},
		pkg:   "./worker", run: "TestHeadThatIsNotTried",
	},
	{
		name: "behind a head that is not tried twice", harm: "begins an event once more while it is handled, if the head of its line had no attempts left",
		edits: []edit{{"worker/turn.go", "if goesOn && r.sub.many == nil {", "if goesOn && false {"}},
		pkg:   "./worker", run: "TestHeadThatIsNotTried",
	},
	{
		name: "shutdown settles what is in flight", harm: "takes what was not answered when the worker stops for delivered: loses events",
		edits: []edit{{
			"worker/record.go", "		r.owed.Failed = append(r.owed.Failed, engine.Unfinished{Event: *j.event, State: outbox.Retrying, Attempt: j.attempt - 1})\n		r.forget(j)",
			"		r.owed.Delivered = append(r.owed.Delivered, j.event.ID)\n		r.forget(j)",
		}},
		pkg: "./worker", run: "TestAsyncShutdown",
	},
	{
		name: "topics change under a reader", harm: "changes topics while workers own lanes: they pass events of the new ones",
		edits: []edit{
			{"internal/engine/topics.go", "if free, err := lockLanes(ctx, tx, id); err != nil || !free {", "if free, err := lockLanes(ctx, tx, id); err != nil || free && false {"},
		},
		pkg: "./internal/engine", run: "TestTopicsChangeAtTheCursors",
	},
	{
		name: "claim with old topics", harm: "claims lanes by topics that have just changed: events of the new ones are passed",
		edits: []edit{{
			"internal/engine/lane.go", "batch.Queue(keepClaimSQL, m.worker, m.subscription, []string(m.topics))", "_ = keepClaimSQL",
		}},
		pkg: "./internal/engine", run: "TestClaimSeesTopics",
	},
	{
		name: "back-fill of late events", harm: "back-fills what a cursor still waits for: it is handled twice",
		edits: []edit{{
			"internal/engine/topics.go", "and not (e.id > (select max(c.floor)", "and not (false and e.id > (select max(c.floor)",
		}},
		pkg: "./internal/engine", run: "TestTopicsChangeAtTheCursors",
	},
	{
		name: "undecoded for an hour", harm: "has events wait that a worker could not decode, although another one serves their lane now",
		edits: []edit{{
			"internal/engine/others.go", "and d.for_others and d.state", "and not d.for_others and d.state",
		}},
		pkg: "./worker", run: "TestRollingDeployOfPayloads",
	},
	{
		name: "a fleet rings like one", harm: "has publishers wake all workers of a large fleet with each event",
		edits: []edit{{"worker/doorbell.go", "min(busyRate, wakeUps/float64(max(1, s.workers.Load())))", "busyRate"}},
		pkg:   "./worker", run: "TestFleetIsSpared",
	},
	{
		name: "owns nothing", harm: "has nobody read for what the doorbell says of its lanes: events wait for the next heartbeat",
		edits: []edit{{"worker/reader.go", "f.joined && f.member.Owns(lanes)", "f.joined && f.member.Owns(0)"}},
		pkg:   "./worker", run: "TestIdle",
	},
}
