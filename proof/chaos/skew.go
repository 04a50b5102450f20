package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Hosts have clocks that differ. A process has no clock of its own, and Go asks the kernel in a way that nothing in between can change: so
// some of the workers are this very program, built with a time.Now that is wrong. The product's code is the same in both.

// nowSource is where time.Now reads the wall clock.
const nowSource = "sec, nsec, mono := runtimeNow()\n\tif mono == 0 {\n\t\treturn Time{uint64(nsec), sec + unixToInternal, Local}"

// buildSkewed builds this program with a wall clock that is ahead by skew, and returns where it is.
func buildSkewed(ctx context.Context, folder string, skew time.Duration) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("find Go: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return "", fmt.Errorf("read Go's clock: %w", err)
	}
	if bytes.Count(source, []byte(nowSource)) != 1 {
		return "", errors.New("this Go reads its clock in another way than the harness knows: leave the skew out")
	}
	wrong := bytes.Replace(source, []byte(nowSource),
		[]byte(strings.Replace(nowSource, "\n", fmt.Sprintf("\n\tsec += %d\n", int64(skew.Seconds())), 1)), 1)
	replaced, overlay := filepath.Join(folder, "time.go"), filepath.Join(folder, "overlay.json")
	if err := os.WriteFile(replaced, wrong, 0o600); err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": {original: replaced}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		return "", err
	}
	program := filepath.Join(folder, "skewed")
	build := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", program, "github.com/signalbox-go/signalbox/proof/chaos")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build workers with another clock: %w: %s", err, out)
	}
	return program, nil
}
