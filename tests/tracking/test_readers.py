"""Every format gives the boxes that MOT text gives; faults of a file are counted, or one sentence."""

import builtins
import json

import numpy as np
import pytest
from PIL import Image

from passerby.errors import UserError
from passerby.tracking.bytetrack import track_detections
from passerby.tracking.notes import Notes
from passerby.tracking.readers import open_source
from tests.tracking.clips import PRESENCE, draw_frame, lines_of, people_of, write_mot, write_video


def opened(path, *, frames=None, true_ids=False, notes=None, rate=10.0):
    return open_source(path, frames=frames, rate=rate, true_ids=true_ids, notes=notes or Notes())


def content(source):
    return [
        (boxes.frame, str(id_), corners.tolist(), int(pid))
        for boxes in source.boxes()
        for id_, corners, pid in zip(boxes.ids, boxes.corners, boxes.pid, strict=True)
    ]


@pytest.fixture(scope="module")
def mot(tmp_path_factory):
    return write_mot(tmp_path_factory.mktemp("readers") / "clip")


def shifted(rows, by=1):
    return [(frame - by, *rest) for frame, *rest in rows]


# ---- MOTChallenge text


def test_a_mot_folder_has_its_name_rate_and_boxes(mot):
    source = open_source(mot, frames=None, rate=None, true_ids=True, notes=Notes())
    assert (source.clip, source.rate, source.first, source.last, source.begin) == ("clip", 10.0, 1, 24, 1)
    rows = content(source)
    assert len(rows) == sum(map(len, PRESENCE.values()))
    x, y, w, h = people_of(5, PRESENCE)[2]
    assert (5, "2", [x, y, x + w, y + h], 2) in rows
    assert content(source) == rows, "a second reading gives the same"


def test_faults_of_mot_text_are_counted(mot, tmp_path):
    (tmp_path / "faults.txt").write_text(
        "1,1,10,10,20,40,1\n1,1,11,10,20,40,1\n1,2,10,10,-20,40,1\n1,3,nan,10,20,40,1\n2,-1,10,10,20,40,1\n"
        "text,1,1,1,1,1\n3,1,10,10\n2.5,1,1,1,5,5\n\n4 1 10 10 20 40\n5,1,10,10,20,4"
    )
    notes = Notes()
    source = opened(tmp_path / "faults.txt", frames=mot / "img1", notes=notes)
    assert [row[:2] for row in content(source)] == [(1, "1"), (4, "1"), (5, "1")]
    assert notes.counts == {"twice": 1, "size": 2, "without_id": 1, "row": 3}
    assert notes.sentences()[0] == "lines or records that are no box, left out: 3"


def test_boxes_that_the_truth_ignores_are_left_out(tmp_path):
    place = write_mot(tmp_path / "clip")
    (place / "gt" / "gt.txt").write_text("1,1,4,4,9,9,1,1,1\n1,2,4,4,9,9,0,8,1\n")
    notes = Notes()
    assert [row[1] for row in content(opened(place, notes=notes))] == ["1"]
    assert notes.counts == {"ignored": 1}


def test_a_file_with_a_frame_0_counts_from_0(tmp_path):
    pytest.importorskip("av")
    lines = [f"{int(line.partition(',')[0]) - 1},{line.partition(',')[2]}" for line in lines_of()]
    (tmp_path / "zero.txt").write_text("\n".join(lines))
    write_video(tmp_path / "zero.mp4")
    source = open_source(tmp_path / "zero.txt", frames=None, rate=None, true_ids=False, notes=Notes())
    assert (source.begin, source.rate) == (0, 10.0)
    difference = source.frames.pixels(7).astype(int) - draw_frame(8, people_of(8, PRESENCE))
    assert np.abs(difference).mean() < 20
    assert source.time(9) == pytest.approx(0.9)


@pytest.mark.parametrize("text", ["", "\n", "no,numbers,at,all,here,now\n", "\x00\xff"])
def test_text_without_a_box_is_refused(mot, tmp_path, text):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(UserError, match=r"t.txt has no box in the form frame,id,x,y,w,h"):
        opened(tmp_path / "t.txt", frames=mot / "img1")


@pytest.mark.parametrize(
    ("info", "sentence"),
    [
        ("[Sequence]\nframeRate=fast\n", "frameRate is 'fast', no number"),
        ("[Sequence]\nframeRate=0\n", "frameRate is 0; it must be above 0"),
        ("frameRate=10", "is not a seqinfo.ini with the section"),
        ("[Sequence]\nimDir=other\n", "has neither a folder other nor a video"),
    ],
)
def test_a_wrong_seqinfo_is_refused(tmp_path, info, sentence):
    place = write_mot(tmp_path / "clip")
    (place / "seqinfo.ini").write_text(info)
    with pytest.raises(UserError, match=sentence):
        opened(place)


# ---- frames


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["left.jpg"], "the name of a frame ends in its number"),
        (["a1.jpg", "b1.jpg"], "has two frames 1: a1.jpg and b1"),
    ],
)
def test_frames_need_numbers(tmp_path, names, sentence):
    (tmp_path / "t.txt").write_text("1,1,1,1,9,9,1")
    (tmp_path / "img1").mkdir()
    for name in names:
        Image.new("RGB", (20, 20)).save(tmp_path / "img1" / name)
    with pytest.raises(UserError, match=sentence):
        opened(tmp_path / "t.txt")


def test_a_file_that_is_no_video_is_refused(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "t.txt").write_text("1,1,1,1,9,9,1")
    (tmp_path / "t.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(UserError, match=r"t.mp4 is not a readable video"):
        opened(tmp_path / "t.txt")
    (tmp_path / "t.mp4").unlink()
    with pytest.raises(
        UserError, match=r"no frames beside .*t.txt: neither img1 nor a video t.mp4; give the frames by"
    ):
        opened(tmp_path / "t.txt")


def without(monkeypatch, *names):
    original = builtins.__import__

    def blocked(name, *rest):
        if name.partition(".")[0] in names:
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", blocked)


def test_packages_that_are_missing_are_named(mot, tmp_path, monkeypatch):
    (tmp_path / "t.txt").write_text("1,-1,1,1,9,9,1")
    (tmp_path / "t.mp4").write_bytes(b"")
    without(monkeypatch, "av", "trackers", "supervision")
    with pytest.raises(UserError, match=r"needs PyAV: pip install 'passerby\[video\]'"):
        opened(tmp_path / "t.txt")
    with pytest.raises(UserError, match=r"no track ids \(id -1\): pip install 'passerby\[trackers\]'"):
        track_detections(opened(tmp_path / "t.txt", frames=mot / "img1"))


# ---- COCO, CVAT, CSV


def coco_of(mot, **changes):
    images = [{"id": 100 + frame, "file_name": f"{frame:06d}.jpg"} for frame in range(1, 25)]
    annotations = [
        {"image_id": 100 + frame, "bbox": list(map(int, line.split(",")[2:6])), "track_id": int(line.split(",")[1]),
         "category_id": 7}
        for line in lines_of()
        for frame in [int(line.split(",")[0])]
    ]  # fmt: skip
    return {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "Person"}]} | changes


def test_coco_tracks_are_those_of_mot(mot, tmp_path):
    (tmp_path / "tracks.json").write_text(json.dumps(coco_of(mot)))
    source = opened(tmp_path / "tracks.json", frames=mot / "img1", true_ids=True)
    assert content(source) == shifted(content(opened(mot, true_ids=True)))
    np.testing.assert_array_equal(source.frames.pixels(3), opened(mot).frames.pixels(4))
    assert source.time(3) == pytest.approx(0.3)


def test_faults_of_coco_are_counted_or_refused(mot, tmp_path):
    def read(**changes):
        (tmp_path / "t.json").write_text(json.dumps(coco_of(mot, **changes)))
        return content(opened(tmp_path / "t.json", frames=mot / "img1", notes=notes, true_ids=True))

    notes = Notes()
    good = coco_of(mot)["annotations"][:2]
    others = [{**good[0], "category_id": 8}, {**good[0], "bbox": [1, 2]}, {**good[0], "image_id": 999}]
    categories = [{"id": 7, "name": "person"}, {"id": 8, "name": "car"}]
    in_attributes = {key: value for key, value in good[1].items() if key != "track_id"} | {
        "attributes": {"track_id": 9}
    }
    rows = read(annotations=[good[0], in_attributes, *others], categories=categories)
    assert [row[1] for row in rows] == ["1", "9"]
    assert notes.counts == {"label": 1, "row": 2}
    for changes, sentence in [
        ({"images": 3}, "lacks the list 'images'"),
        ({"images": [{"id": 1}]}, "needs an id and a file_name"),
        ({"annotations": []}, "t.json has no box"),
        ({"images": [{"id": 1, "file_name": "a"}] * 2}, "two of 'images' have the same id"),
        ({"images": [{"id": n, "file_name": str(n), "video_id": n} for n in (1, 2)]}, "holds 2 videos"),
        (
            {"annotations": [{**good[0], "track_id": "anna"}], "images": coco_of(mot)["images"]},
            "'anna' is no whole number",
        ),
    ]:
        with pytest.raises(UserError, match=sentence):
            read(**changes)


def cvat_of(mot, tracks=PRESENCE):
    boxes = dict.fromkeys(tracks, "")
    for line in lines_of(tracks):
        frame, person, x, y, w, h = map(int, line.split(",")[:6])
        boxes[person] += f'<box frame="{frame - 1}" outside="0" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"/>'
        if frame == tracks[person][-1]:
            boxes[person] += f'<box frame="{frame}" outside="1" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"/>'
    tracks_text = "".join(f'<track id="{person}" label="person">{text}</track>' for person, text in boxes.items())
    car = '<track id="99" label="car"><box frame="1" outside="0" xtl="1" ytl="1" xbr="9" ybr="9"/></track>'
    return f'<?xml version="1.0"?><annotations><version>1.1</version>{tracks_text}{car}</annotations>'


def test_cvat_tracks_are_those_of_mot(mot, tmp_path):
    (tmp_path / "tracks.xml").write_text(cvat_of(mot))
    notes = Notes()
    source = opened(tmp_path / "tracks.xml", frames=mot / "img1", true_ids=True, notes=notes)
    assert content(source) == shifted(content(opened(mot, true_ids=True)))
    assert notes.counts == {"label": 1}
    np.testing.assert_array_equal(source.frames.pixels(3), opened(mot).frames.pixels(4))


def test_cvat_images_hold_tracks_as_attributes(mot, tmp_path):
    (tmp_path / "t.xml").write_text(
        '<annotations><image id="3" name="clip/000004.jpg"><box label="person" xtl="1" ytl="2" xbr="9" ybr="30">'
        '<attribute name="track_id">5</attribute></box><box label="person" xtl="x" ytl="2" xbr="9" ybr="30"/></image>'
        "</annotations>"
    )
    notes = Notes()
    source = opened(tmp_path / "t.xml", frames=mot / "img1", notes=notes)
    assert content(source) == [(3, "5", [1, 2, 9, 30], -1)]
    assert notes.counts == {"row": 1}
    np.testing.assert_array_equal(source.frames.pixels(3), opened(mot).frames.pixels(4))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<svg/>", "no CVAT XML: it begins with <svg>"),
        ("<annotations><track", "is not CVAT XML"),
        ("<annotations/>", "t.xml has no box"),
        ('<annotations><image id="a"/></annotations>', "an image has the id 'a', no number"),
    ],
)
def test_xml_that_is_none_is_refused(mot, tmp_path, text, sentence):
    (tmp_path / "t.xml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        opened(tmp_path / "t.xml", frames=mot / "img1")


@pytest.mark.parametrize("header", ["frame,track_id,x,y,w,h,conf", "Frame_Number, ID ,bb_left,bb_top,width,height,x9"])
def test_a_csv_with_a_header_is_read_by_its_columns(mot, tmp_path, header):
    (tmp_path / "t.csv").write_text("\n".join([header, *(line[: -len(",1,1")] for line in lines_of())]))
    source = opened(tmp_path / "t.csv", frames=mot / "img1", true_ids=True)
    assert content(source) == content(opened(mot, true_ids=True))


def test_a_csv_of_corners_and_one_without_columns(mot, tmp_path):
    (tmp_path / "t.csv").write_text("label,ybr,xbr,ytl,xtl,frame,id\nperson,40,30,10,5,2,7\nperson,x,30,10,5,2,7\n")
    notes = Notes()
    assert content(opened(tmp_path / "t.csv", frames=mot / "img1", notes=notes)) == [(2, "7", [5, 10, 30, 40], -1)]
    assert notes.counts == {"row": 1}
    (tmp_path / "t.csv").write_text("frame,id,left\n1,2,3\n")
    with pytest.raises(UserError, match=r"lacks the columns y1, w, h; it needs frame.*and has frame, id, left"):
        opened(tmp_path / "t.csv", frames=mot / "img1")
    (tmp_path / "t.csv").write_text("\n".join(lines_of()))
    assert content(opened(tmp_path / "t.csv", frames=mot / "img1")) == content(opened(mot))


# ---- detections


def test_detections_become_tracks(mot, tmp_path):
    pytest.importorskip("trackers")
    lines = [
        ",".join(["-1" if place == 1 else word for place, word in enumerate(line.split(","))]) for line in lines_of()
    ]
    (tmp_path / "det.txt").write_text("\n".join(lines))
    source = opened(tmp_path / "det.txt", frames=mot / "img1")
    assert not source.tracked
    tracked = track_detections(source)
    rows = content(tracked)
    assert len({row[1] for row in rows}) == len(PRESENCE)
    assert len(rows) >= 0.8 * len(lines)
    people = {id_: {person for row in rows if row[1] == id_ for person, box in people_of(row[0], PRESENCE).items()
                    if box[:2] == tuple(map(int, row[2][:2]))} for id_ in {row[1] for row in rows}}  # fmt: skip
    assert sorted(map(len, people.values())) == [1, 1, 1]
    assert content(tracked) == rows, "a second reading gives the same ids"
