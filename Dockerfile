# The page and the command line on a CPU, with the default weights inside.
#
#   docker build -t voice-cloning .
#   docker run --rm -p 127.0.0.1:8501:8501 voice-cloning                 # http://localhost:8501
#   docker run --rm --user "$(id -u)" -v "$PWD:/data" voice-cloning \
#     python demo_cli.py --reference /data/me.wav --text "Hello." --output /data/out.wav
#
# Python packages alone: all have wheels or are pure Python, so there is no compiler and no ffmpeg in the image.
# (Only a WaveRNN would gain from one: without, its loop runs in torch.)
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /app

# Before the code, so that a change of it does not fetch the packages again. The extra index has torch without CUDA.
COPY requirements.txt ./
COPY requirements/app.txt requirements/
RUN python -m pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
    -r requirements.txt -r requirements/app.txt

COPY . .

RUN useradd --create-home speaker && mkdir -p out && chown speaker out && python -m utils.doctor
USER speaker

EXPOSE 8501
# Inside, the page listens to the container's network; publish it to 127.0.0.1, as above, and it stays on the machine.
CMD ["python", "-m", "streamlit", "run", "app.py", "--server.address=0.0.0.0"]
