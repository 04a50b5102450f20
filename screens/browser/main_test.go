package browser

import (
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
