package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// xids is a set of transaction ids: sorted, disjoint ranges, each with its end left out. Ranges and not a list, because
// a transaction with many subtransactions can put hundreds of thousands of ids between two neighbours.
type xids []span

type span struct{ from, to int64 }

// newXids returns the union of spans in any order.
func newXids(spans ...span) xids {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var set xids
	for _, s := range spans {
		switch last := len(set) - 1; {
		case s.from >= s.to:
		case last >= 0 && s.from <= set[last].to:
			set[last].to = max(set[last].to, s.to)
		default:
			set = append(set, s)
		}
	}
	return set
}

// both returns what is in set and in other.
func (set xids) both(other xids) xids {
	var result xids
	for i, j := 0, 0; i < len(set) && j < len(other); {
		from, to := max(set[i].from, other[j].from), min(set[i].to, other[j].to)
		if from < to {
			result = append(result, span{from, to})
		}
		if set[i].to < other[j].to {
			i++
		} else {
			j++
		}
	}
	return result
}

// without returns what is in set and not in other.
func (set xids) without(other xids) xids {
	var result xids
	j := 0
	for _, s := range set {
		for j < len(other) && other[j].to <= s.from {
			j++
		}
		from := s.from
		for k := j; k < len(other) && other[k].from < s.to; k++ {
			if from < other[k].from {
				result = append(result, span{from, other[k].from})
			}
			from = other[k].to
		}
		if from < s.to {
			result = append(result, span{from, s.to})
		}
	}
	return result
}

func (set xids) equal(other xids) bool { return slices.Equal(set, other) }

// multirange and xidsOf translate to and from PostgreSQL's int8multirange.
func (set xids) multirange() pgtype.Multirange[pgtype.Range[int64]] {
	ranges := make(pgtype.Multirange[pgtype.Range[int64]], len(set))
	for i, s := range set {
		ranges[i] = pgtype.Range[int64]{
			Lower: s.from, LowerType: pgtype.Inclusive,
			Upper: s.to, UpperType: pgtype.Exclusive, Valid: true,
		}
	}
	return ranges
}

func xidsOf(ranges pgtype.Multirange[pgtype.Range[int64]]) xids {
	var set xids
	for _, r := range ranges {
		set = append(set, span{r.Lower, r.Upper}) // PostgreSQL's canonical form is [from,to)
	}
	return set
}

// A snapshot says which transactions a statement saw: those below xmax that are not in xip.
// xmax is the latest *completed* id plus one. Transactions at and above it may be running already, and are in no list.
type snapshot struct {
	xmax int64
	xip  []int64 // in progress, sorted
}

// parseSnapshot reads the text form of a pg_snapshot, xmin:xmax:xip,xip,….
func parseSnapshot(text string) (snapshot, error) {
	fault := fmt.Errorf("parse snapshot %q: want xmin:xmax:xip", text)
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return snapshot{}, fault
	}
	xmin, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil || xmin <= 0 {
		return snapshot{}, fault
	}
	s := snapshot{}
	if s.xmax, err = strconv.ParseInt(parts[1], 10, 64); err != nil || s.xmax < xmin {
		return snapshot{}, fault
	}
	if parts[2] == "" {
		return s, nil
	}
	for field := range strings.SplitSeq(parts[2], ",") {
		xid, err := strconv.ParseInt(field, 10, 64)
		if err != nil || xid < xmin || xid >= s.xmax || len(s.xip) > 0 && xid <= s.xip[len(s.xip)-1] {
			return snapshot{}, fault
		}
		s.xip = append(s.xip, xid)
	}
	return s, nil
}

// unseen is every transaction id below next that the snapshot did not see.
func (s snapshot) unseen(next int64) xids {
	spans := make([]span, 0, len(s.xip)+1)
	for _, xid := range s.xip {
		spans = append(spans, span{xid, xid + 1})
	}
	return newXids(append(spans, span{s.xmax, next})...)
}

// sees reports whether a transaction that has ended had done so for the snapshot.
func (s snapshot) sees(xid int64) bool {
	if xid >= s.xmax {
		return false
	}
	_, running := slices.BinarySearch(s.xip, xid)
	return !running
}

// older reports whether the snapshot was taken before another one of the same server that differs: what it sees, the other one sees.
// Those of one server are in one order, but xmax alone does not tell it: it stays while transactions end that are below it.
func (s snapshot) older(other snapshot) bool {
	return s.xmax < other.xmax || s.xmax == other.xmax && len(s.xip) > len(other.xip)
}
