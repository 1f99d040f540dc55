"""Amazon's own extended client, as a program: it changes boto3 for its whole process.

``send URL BUCKET TEXT`` or ``receive URL``. Settings come from the environment.
"""

import sys

import boto3
import sqs_extended_client  # noqa: F401 -- it gives clients the attributes below

client = boto3.client("sqs")
action, url, bucket = sys.argv[1:4]
client.large_payload_support = bucket
if action == "send":
    client.always_through_s3 = True
    client.use_legacy_attribute = sys.argv[5] == "legacy"
    client.send_message(QueueUrl=url, MessageBody=sys.argv[4])
else:
    client.delete_payload_from_s3 = True
    answer = client.receive_message(QueueUrl=url, MessageAttributeNames=["All"])
    (message,) = answer["Messages"]
    client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    print(message["Body"])
