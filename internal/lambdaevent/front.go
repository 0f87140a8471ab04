package lambdaevent

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
)

// What API Gateway allows an HTTP API with a Lambda function behind it.
const (
	// MaxBody is the largest request body, in bytes.
	MaxBody = 10 << 20
	// MaxEvent is the largest event that a function can be invoked with, in
	// bytes: a large body that must be encoded reaches it before MaxBody.
	MaxEvent = 6 << 20
	// GatewayTimeout is how long API Gateway waits for a function.
	GatewayTimeout = 30 * time.Second
)

// Front returns an http.Handler that does what an HTTP API with the $default
// route and stage does: it makes an event of payload format 2.0 from each
// request, calls invoke with it and writes the answer.
//
// A body over maxBody bytes (0 means MaxBody), or one that makes an event over
// MaxEvent, is a 413 before anything is invoked. An error of invoke is a 500
// that says nothing; the log says what it was. An invoke that does not end
// within GatewayTimeout is a 503.
func Front(invoke func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error), maxBody int64) http.Handler {
	if maxBody == 0 {
		maxBody = MaxBody
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > maxBody { // told beforehand: nothing is waited for
			answer(w, http.StatusRequestEntityTooLarge, "Request Entity Too Large")
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			answer(w, http.StatusRequestEntityTooLarge, "Request Entity Too Large")
			return
		}
		if err != nil {
			answer(w, http.StatusBadRequest, "Bad Request")
			return
		}
		ev := event(r, body, time.Now())
		if weight(ev) > MaxEvent {
			answer(w, http.StatusRequestEntityTooLarge, "Request Too Long")
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), GatewayTimeout)
		defer cancel()
		resp, err := invoke(ctx, ev)
		if err == nil {
			err = write(w, r, resp)
		}
		switch {
		case err == nil:
		case errors.Is(err, context.DeadlineExceeded):
			slog.ErrorContext(ctx, "function did not answer in time", "err", err)
			answer(w, http.StatusServiceUnavailable, "Service Unavailable")
		default:
			slog.ErrorContext(ctx, "function failed", "err", err)
			answer(w, http.StatusInternalServerError, "Internal Server Error")
		}
	})
}

func answer(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"message":%q}`, message)
}

// event makes the event that API Gateway makes of the request.
func event(r *http.Request, body []byte, now time.Time) events.APIGatewayV2HTTPRequest {
	ip, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		ip = r.RemoteAddr
	}
	headers := make(map[string]string, len(r.Header)+4)
	for name, values := range r.Header {
		if name != "Cookie" {
			headers[strings.ToLower(name)] = strings.Join(values, ",")
		}
	}
	_, port, _ := net.SplitHostPort(r.Host)
	if port == "" {
		port = "80"
	}
	headers["host"] = r.Host
	headers["content-length"] = strconv.Itoa(len(body))
	headers["x-forwarded-for"] = strings.TrimPrefix(headers["x-forwarded-for"]+", "+ip, ", ")
	headers["x-forwarded-port"] = port
	headers["x-forwarded-proto"] = "http"

	var cookies []string
	for _, line := range r.Header["Cookie"] {
		for c := range strings.SplitSeq(line, ";") {
			cookies = append(cookies, strings.TrimSpace(c))
		}
	}
	query := make(map[string]string)
	for name, values := range r.URL.Query() {
		query[name] = strings.Join(values, ",")
	}
	if len(query) == 0 {
		query = nil
	}

	const route = "$default"
	ev := events.APIGatewayV2HTTPRequest{
		Version: "2.0", RouteKey: route,
		RawPath: r.URL.Path, RawQueryString: r.URL.RawQuery,
		Cookies: cookies, Headers: headers, QueryStringParameters: query,
		RequestContext: events.APIGatewayV2HTTPRequestContext{
			RouteKey: route, Stage: "$default", RequestID: rand.Text(),
			AccountID: "000000000000", APIID: "local", DomainName: r.Host, DomainPrefix: "local",
			Time: now.UTC().Format("02/Jan/2006:15:04:05 -0700"), TimeEpoch: now.UnixMilli(),
			HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{
				Method: r.Method, Path: r.URL.Path, Protocol: r.Proto, SourceIP: ip, UserAgent: r.UserAgent(),
			},
		},
	}
	if len(body) > 0 {
		if textual(r.Header) && utf8.Valid(body) {
			ev.Body = string(body)
		} else {
			ev.Body, ev.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
		}
	}
	return ev
}

// textual reports whether API Gateway hands a body over as it is: text and
// three kinds of application data. Anything else, a form and a body without a
// type among them, it encodes.
func textual(h http.Header) bool {
	if h.Get("Content-Encoding") != "" {
		return false
	}
	kind, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	switch kind {
	case "application/json", "application/xml", "application/javascript":
		return true
	}
	return strings.HasPrefix(kind, "text/")
}

// weight estimates the size of the event as JSON, a little high.
func weight(ev events.APIGatewayV2HTTPRequest) int {
	const envelope = 1024
	n := envelope + len(ev.Body)
	if !ev.IsBase64Encoded {
		for _, escaped := range []string{`"`, `\`, "\n", "\r", "\t"} {
			n += strings.Count(ev.Body, escaped)
		}
	}
	for name, value := range ev.Headers {
		n += len(name) + len(value) + len(`"":"",`)
	}
	return n + 2*len(ev.RawPath) + 2*len(ev.RawQueryString)
}

// write sends the function's answer; nothing has been sent when it fails.
func write(w http.ResponseWriter, r *http.Request, resp events.APIGatewayV2HTTPResponse) error {
	body := []byte(resp.Body)
	if resp.IsBase64Encoded {
		b, err := base64.StdEncoding.DecodeString(resp.Body)
		if err != nil {
			return fmt.Errorf("decode answer: %w", err)
		}
		body = b
	}
	code := resp.StatusCode
	if code == 0 {
		code = http.StatusOK
	}
	if code < 200 || code > 999 {
		return fmt.Errorf("answer with status %d", code)
	}
	for name, value := range resp.Headers {
		w.Header().Set(name, value)
	}
	for _, c := range resp.Cookies {
		w.Header().Add("Set-Cookie", c)
	}
	if len(body) > 0 && w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json") // API Gateway's own default
	}
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client may have gone; there is nobody to tell
	}
	return nil
}
