"""The command ``serve``, and the commands for each of its four processes."""

from __future__ import annotations

import typer

from dicom_node.cli.options import ConfigOption, read_settings


def serve(config: ConfigOption = None) -> None:
    """Run the whole node: receive, web, schedule and work.

    Receives CT and MR series by C-STORE, segments each when it is complete, delivers the results to the peers named in
    the settings, and serves them by DICOMweb. SIGTERM or Ctrl-C stops it cleanly; every acknowledged instance is kept.

    \b
    Example:
      dicom-node serve -c config/node.yaml
    """
    from dicom_node.app.serve import serve as run

    raise typer.Exit(run(read_settings(config), config))


def receive(config: ConfigOption = None) -> None:
    """Run the receiver alone: C-ECHO and C-STORE.

    For a container of its own; `serve` starts it by itself.

    \b
    Example:
      dicom-node receive -c config/node.yaml
    """
    from dicom_node.app.receive import run_receive

    raise typer.Exit(run_receive(read_settings(config)))


def web(config: ConfigOption = None) -> None:
    """Run the web server alone: DICOMweb, /health and /metrics.

    For a container of its own; `serve` starts it by itself.

    \b
    Example:
      dicom-node web -c config/node.yaml
    """
    from dicom_node.app.web import run_web

    raise typer.Exit(run_web(read_settings(config)))


def schedule(config: ConfigOption = None) -> None:
    """Run the scheduler alone: completes and routes series, delivers results, deletes by retention.

    For a container of its own; `serve` starts it by itself. It loads no model.

    \b
    Example:
      dicom-node schedule -c config/node.yaml
    """
    from dicom_node.app.schedule import run_schedule

    raise typer.Exit(run_schedule(read_settings(config)))


def work(config: ConfigOption = None) -> None:
    """Run the worker alone: the models on complete series.

    For a container with a GPU; `serve` starts it by itself.

    \b
    Example:
      dicom-node work -c config/node.yaml
    """
    from dicom_node.app.work import run_work

    raise typer.Exit(run_work(read_settings(config)))
