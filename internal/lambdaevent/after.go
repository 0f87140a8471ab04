package lambdaevent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
)

// After returns a Lambda handler that answers as h does, and calls rest once
// Lambda has the answer, before the process asks for its next event. Until it
// asks, Lambda leaves it running: what a request has begun and nobody waits for
// is brought to its end in rest, which the caller does not notice. It is billed
// as the handler is, and it is called within the invocation's time, so it should
// be short. After an error of h it is not called.
func After[In, Out any](h func(context.Context, In) (Out, error), rest func()) func(context.Context, In) (io.Reader, error) {
	return func(ctx context.Context, ev In) (io.Reader, error) {
		out, err := h(ctx, ev)
		if err != nil {
			return nil, err
		}
		var body bytes.Buffer
		e := json.NewEncoder(&body)
		e.SetEscapeHTML(false) // as the runtime does by itself
		if err := e.Encode(out); err != nil {
			return nil, fmt.Errorf("encode answer: %w", err)
		}
		body.Truncate(body.Len() - 1) // a newline
		return &outcome{body: &body, rest: rest}, nil
	}
}

// outcome is an answer that Lambda's runtime reads, posts, and then closes. To
// encoding/json it is an empty object, by which the runtime knows that it is to
// be read.
type outcome struct {
	body *bytes.Buffer
	rest func()
}

func (o *outcome) Read(p []byte) (int, error) { return o.body.Read(p) }

func (o *outcome) ContentType() string { return "application/json" }

func (o *outcome) Close() error {
	o.rest()
	return nil
}
