package moves_test

import (
	"fmt"

	"github.com/signalbox-go/signalbox/worker"
)

const uidSQL = `e.id || '@' || (extract(epoch from e.published_at) * 1000000)::bigint`

func uidOf(e worker.Event[payload]) string {
	return fmt.Sprintf("%d@%d", e.ID, e.PublishedAt.UnixMicro())
}
