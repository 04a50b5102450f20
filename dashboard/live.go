package dashboard

import (
	"bytes"
	"net/http"
	"strings"
	"time"
)

// quiet is after how long without news a stream says that it is there, so that nothing on the way takes it for dead, and that a page is
// not called live which hears nothing.
const quiet = 15 * time.Second

// still is what it says then.
var still = message("still", "")

// stream sends what is in the middle of a page whenever that changes, until the browser leaves or the Handler is closed.
// Where it cannot be had, an event "down" says why.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, collect pageFunc) {
	select {
	case h.streams <- struct{}{}:
		defer func() { <-h.streams }()
	default:
		http.Error(w, "too many are watching", http.StatusServiceUnavailable)
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // the server's is for requests that end
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy must not wait for more

	looks := time.NewTicker(h.every)
	defer looks.Stop()
	var (
		last string
		told time.Time
	)
	for {
		message := h.news(r, collect)
		if message == last {
			message = ""
		} else {
			last = message
		}
		if message == "" && time.Since(told) > quiet {
			message = still
		}
		if message != "" {
			told = time.Now()
			_ = control.SetWriteDeadline(told.Add(pageTimeout))
			if _, err := w.Write([]byte(message)); err != nil {
				return
			}
			if err := control.Flush(); err != nil {
				return
			}
		}
		select {
		case <-looks.C:
		case <-r.Context().Done():
			return
		case <-h.closed:
			return
		}
	}
}

// news is the page's middle as a message.
func (h *Handler) news(r *http.Request, collect pageFunc) string {
	v, err := h.collect(r, collect)
	var part bytes.Buffer
	if err == nil {
		h.dress(v)
		err = templates[v.Template].ExecuteTemplate(&part, "live", v)
	}
	if err != nil {
		f := explain(h.config.Outbox, err)
		return message("down", f.Title+". "+f.Hint)
	}
	return message("page", part.String())
}

// lineEnds are what ends a line of server-sent events: a carriage return alone does, too. Text with one must not begin a line of its own.
var lineEnds = strings.NewReplacer("\r\n", "\ndata: ", "\r", "\ndata: ", "\n", "\ndata: ")

// message is a server-sent event.
func message(event, data string) string {
	return "event: " + event + "\ndata: " + lineEnds.Replace(data) + "\n\n"
}
