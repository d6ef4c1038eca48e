// The part of Android's interface that the screen of the Android project uses, written down from
// the declarations of API 37 in the npm package @nativescript/types-android 9.1.1. A test divides
// this file into one for each class; nothing of it runs.
package android;
public final class R {
  public static final class layout { public static final int simple_spinner_dropdown_item = 0; }
}

package android.app;
public class Activity extends android.content.Context {
  public Activity() {}
  protected void onCreate(android.os.Bundle state) {}
  protected void onDestroy() {}
  public void setContentView(android.view.View view) {}
  public final void runOnUiThread(Runnable action) {}
}

package android.content;
public abstract class Context {
  public android.content.res.AssetManager getAssets() { return null; }
  public android.content.res.Resources getResources() { return null; }
  public void startActivity(Intent intent) {}
}

package android.content;
public class Intent {
  public static final String ACTION_SEND = "android.intent.action.SEND";
  public static final String EXTRA_TEXT = "android.intent.extra.TEXT";
  public Intent(String action) {}
  public Intent setType(String type) { return this; }
  public Intent putExtra(String name, String value) { return this; }
  public static Intent createChooser(Intent target, CharSequence title) { return target; }
}

package android.content.res;
public class Resources {
  public android.util.DisplayMetrics getDisplayMetrics() { return null; }
}

package android.os;
public final class Bundle {}

package android.text;
public interface Editable extends CharSequence {}

package android.text;
public interface InputType {
  int TYPE_CLASS_TEXT = 1;
  int TYPE_CLASS_NUMBER = 2;
  int TYPE_NUMBER_FLAG_DECIMAL = 8192;
  int TYPE_TEXT_FLAG_MULTI_LINE = 131072;
}

package android.util;
public class DisplayMetrics { public float density; }

package android.view;
public class View {
  public static final int VISIBLE = 0;
  public static final int GONE = 8;
  public interface OnClickListener { void onClick(View view); }
  public View(android.content.Context context) {}
  public int getId() { return 0; }
  public void setId(int id) {}
  public int getVisibility() { return 0; }
  public void setVisibility(int visibility) {}
  public void setPadding(int left, int top, int right, int bottom) {}
  public boolean isEnabled() { return true; }
  public void setEnabled(boolean enabled) {}
  public int getLabelFor() { return 0; }
  public void setLabelFor(int id) {}
  public boolean getFitsSystemWindows() { return false; }
  public void setFitsSystemWindows(boolean fits) {}
  public final boolean requestFocus() { return true; }
  public void setOnClickListener(OnClickListener listener) {}
}

package android.view;
public abstract class ViewGroup extends View {
  public ViewGroup(android.content.Context context) { super(context); }
  public void addView(View child) {}
  public int getChildCount() { return 0; }
}

package android.widget;
public interface SpinnerAdapter {}

package android.widget;
public class ArrayAdapter<T> implements SpinnerAdapter {
  public ArrayAdapter(android.content.Context context, int resource, java.util.List<T> objects) {}
}

package android.widget;
public class Button extends TextView {
  public Button(android.content.Context context) { super(context); }
}

package android.widget;
public class CheckBox extends Button {
  public CheckBox(android.content.Context context) { super(context); }
  public boolean isChecked() { return false; }
  public void setChecked(boolean checked) {}
}

package android.widget;
public class EditText extends TextView {
  public EditText(android.content.Context context) { super(context); }
  @Override public android.text.Editable getText() { return null; }
  public void setSelection(int index) {}
}

package android.widget;
public class LinearLayout extends android.view.ViewGroup {
  public static final int VERTICAL = 1;
  public LinearLayout(android.content.Context context) { super(context); }
  public int getOrientation() { return 0; }
  public void setOrientation(int orientation) {}
}

package android.widget;
public class ScrollView extends android.view.ViewGroup {
  public ScrollView(android.content.Context context) { super(context); }
}

package android.widget;
public class SeekBar extends android.view.View {
  public interface OnSeekBarChangeListener {
    void onProgressChanged(SeekBar bar, int progress, boolean fromUser);
    void onStartTrackingTouch(SeekBar bar);
    void onStopTrackingTouch(SeekBar bar);
  }
  public SeekBar(android.content.Context context) { super(context); }
  public int getMax() { return 100; }
  public void setMax(int max) {}
  public int getProgress() { return 0; }
  public void setProgress(int progress) {}
  public void setOnSeekBarChangeListener(OnSeekBarChangeListener listener) {}
}

package android.widget;
public class Spinner extends android.view.ViewGroup {
  public Spinner(android.content.Context context) { super(context); }
  public SpinnerAdapter getAdapter() { return null; }
  public void setAdapter(SpinnerAdapter adapter) {}
  public int getSelectedItemPosition() { return 0; }
}

package android.widget;
public class TextView extends android.view.View {
  public TextView(android.content.Context context) { super(context); }
  public CharSequence getText() { return null; }
  public final void setText(CharSequence text) {}
  public final void append(CharSequence text) {}
  public CharSequence getError() { return null; }
  public void setError(CharSequence error) {}
  public int getInputType() { return 0; }
  public void setInputType(int type) {}
  public void setTextIsSelectable(boolean selectable) {}
}
