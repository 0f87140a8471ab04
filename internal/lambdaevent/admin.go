package lambdaevent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-lambda-go/events"
)

// Admin returns a Lambda handler for the admin function. An HTTP API event is
// answered by h, as HTTP says. Two direct invokes are known, and any other event
// is an error:
//
//   - {"create_token":{...}} is handed to mint: the object, and what mint returns
//     is the invocation's result.
//   - {"seal":{"key":"current"}} has reseal store all secrets under that key
//     ("current", "new", "none"), and the result is {"written":12,"more":false}.
//     reseal may be nil where nothing is ever sealed.
//
// Who may invoke the function directly is IAM's decision. No HTTP client can
// make its request look like a direct invoke: API Gateway writes the event's
// own keys, the client only values inside them.
func Admin(
	h http.Handler,
	mint func(ctx context.Context, create json.RawMessage) (any, error),
	reseal func(ctx context.Context, key string) (written int, more bool, err error),
) func(context.Context, json.RawMessage) (any, error) {
	serveHTTP := HTTP(h)
	return func(ctx context.Context, raw json.RawMessage) (_ any, err error) {
		defer recovered(ctx, &err)
		var kind struct {
			RequestContext *struct{}       `json:"requestContext"`
			CreateToken    json.RawMessage `json:"create_token"`
			Seal           *struct {
				Key string `json:"key"`
			} `json:"seal"`
		}
		if err := json.Unmarshal(raw, &kind); err != nil {
			return nil, fmt.Errorf("read event: %w", err)
		}
		switch {
		case kind.RequestContext != nil:
			var ev events.APIGatewayV2HTTPRequest
			if err := json.Unmarshal(raw, &ev); err != nil {
				return nil, fmt.Errorf("read API Gateway event: %w", err)
			}
			return serveHTTP(ctx, ev)
		case len(kind.CreateToken) > 0 && kind.CreateToken[0] == '{':
			return mint(ctx, kind.CreateToken)
		case kind.Seal != nil && reseal != nil:
			written, more, err := reseal(ctx, kind.Seal.Key)
			if err != nil {
				return nil, fmt.Errorf("seal: %w", err) // what was written stays; the next call goes on
			}
			return resealed{written, more}, nil
		}
		return nil, errors.New(`event is neither an HTTP request nor {"create_token":{...}} nor {"seal":{"key":"current"}}`)
	}
}

// resealed is the result of a seal: how many documents were written, and
// whether there are more, which the next call writes.
type resealed struct {
	Written int  `json:"written"`
	More    bool `json:"more"`
}
