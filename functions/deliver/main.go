// Command deliver is the Lambda function that tells hooks: the two queues' work, and each minute's sweep.
package main

import (
	"errors"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"eventhooks/internal/action"
	"eventhooks/internal/deliver"
	"eventhooks/internal/dynamostore"
	"eventhooks/internal/egress"
	"eventhooks/internal/env"
	"eventhooks/internal/keyring"
	"eventhooks/internal/lambdaevent"
	"eventhooks/internal/lua"
	"eventhooks/internal/sqsqueue"
	"eventhooks/internal/telemetry"
)

var version, loopback = "dev", "" // set by the linker only: loopback by the end-to-end tests

func main() {
	lua.RunIfChild()
	slog.SetDefault(lambdacontext.NewLogger())
	svc, err := setup(env.New(os.LookupEnv))
	if err != nil {
		slog.Error("cold start failed", "err", err)
		os.Exit(1)
	}
	lambdaevent.Warm(svc.Warm)
	lambda.StartHandlerFunc(lambdaevent.Deliver(svc.Deliver, svc.Sweep))
}

func setup(e *env.Settings) (*deliver.Service, error) {
	store, queues, waits := dynamostore.New(dynamodb.NewFromConfig(e.AWS("DYNAMODB")), e.String("CONFIG_TABLE"), e.String("STATE_TABLE")), sqs.NewFromConfig(e.AWS("SQS")), e.Schedule("RETRY_SCHEDULE")
	store = store.Sealed(keyring.New(keyring.Options{Records: store, KeyARN: e.KMSKey("KMS_KEY_ARN"), AWS: e.AWS("KMS"), Suffix: e.String("URL_SUFFIX")}))
	events, retry, failuresOnly := sqsqueue.New(queues, e.String("EVENTS_QUEUE_URL")), sqsqueue.New(queues, e.String("RETRY_QUEUE_URL")), e.OneOf("DELIVERY_LOG", "all", "failures") == "failures"
	client, err := egress.New(egress.Options{AllowPrivate: e.Prefixes("ALLOW_PRIVATE_CIDRS"), AllowLoopback: loopback != ""})
	if err := errors.Join(e.Err(), err); err != nil {
		return nil, err
	}
	act := action.New(action.Options{Client: client, Version: version, Lua: lua.NewPool(lua.Options{MemoryMB: lambdacontext.MemoryLimitInMB})})
	return deliver.New(deliver.Options{Store: store, Events: events, Retry: retry, Action: act, Schedule: waits, FailuresOnly: failuresOnly, Metrics: telemetry.New(os.Stdout, lambdacontext.FunctionName, nil).Put})
}
