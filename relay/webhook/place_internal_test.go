package webhook

import "testing"

func TestPlaceOf(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://hooks.example":                  "https://hooks.example",
		"https://hooks.example/":                 "https://hooks.example",
		"https://hooks.example:8443/T01/hunter2": "https://hooks.example:8443/…",
		"https://me:hunter2@hooks.example/":      "https://hooks.example",
		"https://hooks.example?token=hunter2":    "https://hooks.example/…",
		"https://hunter2:x":                      "webhook",
	} {
		if got := placeOf(raw); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
}
