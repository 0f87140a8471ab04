// Command healthprobe is the Lambda function that probes, each minute, what is due, and tells of what changed.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"eventhooks/internal/dynamostore"
	"eventhooks/internal/egress"
	"eventhooks/internal/env"
	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
	"eventhooks/internal/keyring"
	"eventhooks/internal/lambdaevent"
	"eventhooks/internal/selfinvoke"
	"eventhooks/internal/sqsqueue"
	"eventhooks/internal/telemetry"
)

var version, loopback = "dev", "" // set by the linker only: loopback by the end-to-end tests

func main() {
	slog.SetDefault(lambdacontext.NewLogger())
	svc, err := setup(env.New(os.LookupEnv))
	if err != nil {
		slog.Error("cold start failed", "err", err)
		os.Exit(1)
	}
	lambda.Start(lambdaevent.Probe(svc.Run))
}

func setup(e *env.Settings) (*healthprobe.Service, error) {
	store, queueURL, suffix := dynamostore.New(dynamodb.NewFromConfig(e.AWS("DYNAMODB")), e.String("CONFIG_TABLE"), e.String("STATE_TABLE")), e.String("EVENTS_QUEUE_URL"), e.String("URL_SUFFIX")
	store = store.Sealed(keyring.New(keyring.Options{Records: store, KeyARN: e.KMSKey("KMS_KEY_ARN"), AWS: e.AWS("KMS"), Suffix: suffix}))
	self := selfinvoke.New(e.AWS("LAMBDA"), suffix, lambdacontext.FunctionName)
	queue, check := sqsqueue.New(sqs.NewFromConfig(e.AWS("SQS")), queueURL), egress.Reach(e.Address("CONNECTIVITY_CHECK", queueURL))
	client, err := egress.New(egress.Options{AllowPrivate: e.Prefixes("ALLOW_PRIVATE_CIDRS"), AllowLoopback: loopback != "", UserAgent: "eventhooks/" + version})
	if err := errors.Join(e.Err(), err); err != nil {
		return nil, err
	}
	lambdaevent.Warm(func(ctx context.Context) error { _, err := store.Epoch(ctx, hook.FeedUpstreams); return err })
	return healthprobe.New(healthprobe.Options{Store: store, Queue: queue, Prober: client, SelfCheck: check, Shards: self, Metrics: telemetry.New(os.Stdout, lambdacontext.FunctionName, nil).Put})
}
