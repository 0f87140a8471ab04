// Package lambdaevent translates between AWS Lambda's events and the services:
// an API Gateway event becomes an http.Request, a batch of SQS messages
// becomes hook.Received values, a schedule becomes a call. It decides nothing.
//
// The way back is here too: Front makes the same API Gateway events from real
// HTTP requests and SQSEvent the same SQS events from received messages, so
// that the whole system runs on one machine through the very adapters that
// Lambda uses.
package lambdaevent

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
)

// HTTP returns a Lambda handler that answers HTTP API events (payload format
// 2.0) with h.
//
// The request that h sees has the path that the client named after the stage
// and, for a route other than $default, after any base path of a custom
// domain; header values whole; the invocation's context, and so its deadline.
// What h writes is collected and handed back in one piece: a header that
// repeats is joined with commas, a cookie goes its own way, a body that is not
// text is encoded. A panic is a 500 with a JSON body, and the process goes on.
//
// The error is not nil only for an event that API Gateway does not make.
func HTTP(h http.Handler) func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	return func(ctx context.Context, ev events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		r, err := request(ctx, ev)
		if err != nil {
			return events.APIGatewayV2HTTPResponse{}, fmt.Errorf("read API Gateway event: %w", err)
		}
		return serve(h, r), nil
	}
}

// serve runs the handler and collects its answer.
func serve(h http.Handler, r *http.Request) (resp events.APIGatewayV2HTTPResponse) {
	w := &response{header: http.Header{}, bodiless: r.Method == http.MethodHead}
	defer func() {
		if p := recover(); p != nil {
			logPanic(r.Context(), p)
			resp = events.APIGatewayV2HTTPResponse{
				StatusCode: http.StatusInternalServerError,
				Headers:    map[string]string{"Content-Type": "application/json; charset=utf-8"},
				Body:       `{"message":"An unexpected error occurred"}`,
			}
		}
	}()
	h.ServeHTTP(w, r)
	return w.result()
}

// logPanic logs where a panic came from. Its value is logged only if the
// runtime made it: any other could hold what a log must not, a secret or a
// piece of an event.
func logPanic(ctx context.Context, p any) {
	what := fmt.Sprintf("%T", p)
	if err, ok := p.(runtime.Error); ok {
		what = err.Error()
	}
	slog.ErrorContext(ctx, "panic", "panic", what, "stack", string(debug.Stack()))
}

// request makes the request that the client sent to API Gateway.
func request(ctx context.Context, ev events.APIGatewayV2HTTPRequest) (*http.Request, error) {
	about := ev.RequestContext.HTTP
	if ev.Version != "2.0" || about.Method == "" {
		return nil, fmt.Errorf("not an HTTP API event of payload format 2.0 (version %q)", ev.Version)
	}
	body := []byte(ev.Body)
	if ev.IsBase64Encoded {
		b, err := base64.StdEncoding.DecodeString(ev.Body)
		if err != nil {
			return nil, fmt.Errorf("decode body: %w", err)
		}
		body = b
	}

	header := make(http.Header, len(ev.Headers)+1)
	for name, value := range ev.Headers {
		// Never split at commas: a signature and a date have them inside.
		header[http.CanonicalHeaderKey(name)] = []string{value}
	}
	if len(ev.Cookies) > 0 {
		header["Cookie"] = []string{strings.Join(ev.Cookies, "; ")}
	}
	host := header.Get("Host")
	if host == "" {
		host = ev.RequestContext.DomainName
	}
	header.Del("Host") // net/http keeps it in Request.Host only

	// The path comes decoded, so it is set as it is: read as a URL, a "?" or a
	// "%" that the client had encoded would change its meaning.
	u := &url.URL{Path: pathOf(ev), RawQuery: ev.RawQueryString}
	r := &http.Request{
		Method: about.Method, URL: u, RequestURI: u.RequestURI(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Host: host,
		Body: http.NoBody, ContentLength: int64(len(body)),
		RemoteAddr: net.JoinHostPort(about.SourceIP, "0"),
	}
	if len(body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return r.WithContext(ctx), nil
}

// pathOf returns the path without the stage's name and without the base path
// under which a custom domain offers the API. API Gateway leaves both in
// rawPath.
func pathOf(ev events.APIGatewayV2HTTPRequest) string {
	path := ev.RawPath
	if stage := ev.RequestContext.Stage; stage != "" && stage != "$default" {
		if rest, ok := strings.CutPrefix(path, "/"+stage); ok && (rest == "" || rest[0] == '/') {
			path = rest
		}
	}
	if _, route, ok := strings.Cut(ev.RouteKey, " "); ok {
		path = afterBase(path, route)
	}
	if path == "" {
		return "/"
	}
	return path
}

// afterBase returns the part of the path that matched the route: as many
// segments from the end as the route has, if the first of them is the route's.
// Otherwise there is no base path, or no telling, and the path stays whole.
func afterBase(path, route string) string {
	start := len(path)
	for range strings.Count(route, "/") {
		start = strings.LastIndexByte(path[:start], '/')
		if start < 0 {
			return path
		}
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(route, "/"), "/")
	if rest := path[start:]; rest == "/"+first || strings.HasPrefix(rest, "/"+first+"/") {
		return rest
	}
	return path
}

// response is an http.ResponseWriter that keeps what is written.
type response struct {
	header   http.Header
	sent     http.Header // header as it was when the status was written; nil until then
	code     int         // 0 until the status was written
	bodiless bool        // the answer to HEAD: what is written counts, but is not sent
	body     bytes.Buffer
}

func (w *response) Header() http.Header { return w.header }

// WriteHeader keeps the first status, as net/http does; later ones and headers
// set after it change nothing. Informational answers cannot be sent through
// Lambda and are left out.
func (w *response) WriteHeader(code int) {
	if code < 100 || code > 999 {
		panic(fmt.Sprintf("invalid WriteHeader code %d", code)) // as net/http
	}
	if w.code != 0 || code < 200 {
		return
	}
	w.code, w.sent = code, w.header.Clone()
	if w.sent == nil {
		w.sent = http.Header{}
	}
}

func (w *response) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.code == http.StatusNoContent || w.code == http.StatusNotModified {
		return 0, http.ErrBodyNotAllowed
	}
	if w.body.Len() == 0 && len(p) > 0 && len(w.sent["Content-Type"]) == 0 && w.sent.Get("Content-Encoding") == "" {
		w.sent.Set("Content-Type", http.DetectContentType(p))
	}
	if w.bodiless {
		return len(p), nil
	}
	return w.body.Write(p)
}

func (w *response) result() events.APIGatewayV2HTTPResponse {
	w.WriteHeader(http.StatusOK) // for a handler that wrote nothing
	resp := events.APIGatewayV2HTTPResponse{StatusCode: w.code, Headers: make(map[string]string, len(w.sent))}
	for name, values := range w.sent {
		switch name {
		case "Set-Cookie": // the one header that may not be joined
			resp.Cookies = slices.Clone(values)
		case "Content-Length", "Transfer-Encoding", "Connection": // API Gateway's to say
		default:
			resp.Headers[name] = strings.Join(values, ", ")
		}
	}
	if body := w.body.Bytes(); w.sent.Get("Content-Encoding") == "" && utf8.Valid(body) {
		resp.Body = string(body)
	} else {
		resp.Body, resp.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
	}
	return resp
}
