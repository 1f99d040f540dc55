"""A Flask application whose jobs run in workers with a context of the application.

Run it::

    cd examples/frameworks
    export DEFERRABLE_URL=sqlite:///jobs.db
    flask --app flask_jobs run
    flask --app flask_jobs deferrable worker
    curl -X POST http://127.0.0.1:5000/welcome/Ada
"""

from flask import Flask, current_app

from deferrable import Deferrable, backend
from deferrable.contrib.flask import DeferrableExtension

shop = Deferrable(backend.from_url().create_backend_for_group("flask"), keep_results_seconds=600)

app = Flask(__name__)
app.config["GREETING"] = "Welcome"
DeferrableExtension(app, shop)


@shop.deferrable
def welcome(name: str) -> str:
    return f"{current_app.config['GREETING']}, {name}!"


@app.post("/welcome/<name>")
def post_welcome(name: str) -> tuple[dict[str, str | None], int]:
    return {"id": welcome.later(name).id}, 202


@app.get("/results/<call_id>")
def get_result(call_id: str) -> dict[str, str]:
    return {"status": shop.call(call_id).state().status}
