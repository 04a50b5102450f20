package producer

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
)

// How large a request's body may be, in bytes.
const (
	MaxBody      = 1 << 20
	MaxBatchBody = 16 << 20
)

const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
)

// readBody reads the body, at most limit bytes of it. It comes before any look at the content, because a body over the
// limit is too large whatever it says; one that announces it is not read at all.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	tooLarge := refuse(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", limit)
	if r.ContentLength > limit {
		return nil, tooLarge
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	switch {
	case int64(len(body)) > limit:
		return nil, tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, refuse(http.StatusRequestTimeout, "the body did not arrive in time")
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "the body cannot be read to its end")
	}
	return body, nil
}

// contentType returns which of the accepted types the body has.
func contentType(r *http.Request, accepted ...string) (string, error) {
	unsupported := refuse(http.StatusUnsupportedMediaType, "send the body as Content-Type: %s, in UTF-8 and not compressed",
		strings.Join(accepted, " or "))
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return "", unsupported
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(accepted, kind) {
		return "", unsupported
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return "", unsupported
	}
	return kind, nil
}
