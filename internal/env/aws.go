package env

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// AWS returns the configuration of a client: the region and the credentials
// that Lambda puts into the environment, and, as the SDK's own config package
// would read them, AWS_ENDPOINT_URL_<service> or AWS_ENDPOINT_URL. service is
// in the form of those names: DYNAMODB, SQS.
//
// It is made by hand because the config package costs each function 2 MB and a
// millisecond of every start for ways to sign in that Lambda never uses.
func (s *Settings) AWS(service string) aws.Config {
	cfg := aws.Config{
		Region:     s.String("AWS_REGION"),
		HTTPClient: client,
		Credentials: aws.NewCredentialsCache(credentials{aws.Credentials{
			AccessKeyID:     s.String("AWS_ACCESS_KEY_ID"),
			SecretAccessKey: s.String("AWS_SECRET_ACCESS_KEY"),
			SessionToken:    s.value("AWS_SESSION_TOKEN"), // always there in Lambda; not with a user's own keys
			Source:          "environment",
		}}),
	}
	for _, name := range []string{"AWS_ENDPOINT_URL_" + service, "AWS_ENDPOINT_URL"} {
		v := s.value(name)
		if v == "" {
			continue
		}
		if u, err := url.Parse(v); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			s.note(fmt.Sprintf("%s: %q is not an http or https URL", name, v))
		}
		cfg.BaseEndpoint = &v
		break
	}
	return cfg
}

// client keeps as many connections as deliver has attempts in flight, for each
// ends in a write. The SDK's own keeps 10, and makes a new one, TLS included, for
// every request beyond.
var client = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 2*idleConns, idleConns
})

const idleConns = 64 // to each service, as deliver.MaxInFlight

// credentials are what the environment held at the start. Lambda starts a new
// process before they expire.
type credentials struct{ value aws.Credentials }

func (c credentials) Retrieve(context.Context) (aws.Credentials, error) { return c.value, nil }
